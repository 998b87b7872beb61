"""Where model servers put the words of their errors, and their statuses."""

import pytest

from service.models.failures import error_in_stream, error_text


@pytest.mark.parametrize(
    "error",
    [
        "Too long.",
        {"message": "Too long."},
        {"error": "Too long."},
        {"error": {"message": "Too long."}},
        [{"error": {"code": 400, "message": "Too long.", "status": "INVALID_ARGUMENT"}}],
        {"detail": "Too long."},
        {"detail": [{"loc": ["body", "messages"], "msg": "Too long.", "type": "value_error"}]},
        {"object": "error", "message": "Too long.", "code": 400},
        {"message": {"detail": [{"msg": "Too long."}]}},
    ],
    ids=repr,
)
def test_texts(error: object) -> None:
    assert error_text(error) == "Too long."


@pytest.mark.parametrize("error", [None, {}, [], 5, [None, {"detail": []}], "<html>"], ids=repr)
def test_no_text(error: object) -> None:
    assert error_text(error) is None


@pytest.mark.parametrize(
    ("code", "read_as", "retryable"),
    [
        (429, "rate_limit_exceeded", True),
        ("429", "rate_limit_exceeded", True),
        ("400", "invalid_prompt", False),
        ("404", "server_error", False),
        ("503", "server_error", True),
        ("overloaded", "server_error", True),
        ("²", "server_error", True),
    ],
)
def test_codes_in_streams(code: object, read_as: str, retryable: bool) -> None:
    error = error_in_stream({"message": "No.", "code": code})
    assert (error.code, error.retryable) == (read_as, retryable)
