"""Where model servers put the words of their errors, and their statuses."""

import pytest

from service.models.failures import KEY_REFUSED, error_in_stream, error_of, error_text, refusal_of


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
        {"errors": [{"message": "Too long."}]},
        {"metadata": {"raw": '{"error": {"message": "Too long."}}'}},
        {"metadata": {"raw": "Too long."}, "code": 400},
    ],
    ids=repr,
)
def test_texts(error: object) -> None:
    assert error_text(error) == "Too long."


def test_the_text_of_an_error_that_is_passed_on() -> None:
    error = {"message": "Provider returned error", "metadata": {"raw": '{"detail": "Too long."}'}}
    assert error_text(error) == "Provider returned error: Too long."
    refusal = refusal_of(400, error)
    assert refusal is not None
    assert "Too long." in refusal.words


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
        ("rate_limit_exceeded", "rate_limit_exceeded", True),
        ("RESOURCE_EXHAUSTED", "rate_limit_exceeded", True),
        ("insufficient_quota", "server_error", False),
        ("INVALID_ARGUMENT", "invalid_prompt", False),
        ("context_length_exceeded", "invalid_prompt", False),
        ("model_not_found", "server_error", False),
        ("²", "server_error", True),
    ],
)
def test_codes_in_streams(code: object, read_as: str, retryable: bool) -> None:
    error = error_in_stream({"message": "No.", "code": code})
    assert (error.code, error.retryable) == (read_as, retryable)


@pytest.mark.parametrize("where", ["status", "type"])
def test_words_in_streams(where: str) -> None:
    assert error_in_stream({"message": "No.", where: "RATE_LIMIT_ERROR"}).retryable
    assert not error_in_stream({"message": "No.", where: "invalid_request_error"}).retryable


def test_a_context_in_streams() -> None:
    error = {"message": "maximum context length is 4096 tokens", "code": 400}
    assert error_in_stream(error).context == 4096


@pytest.mark.parametrize("code", [401, "403", "invalid_api_key"])
def test_a_key_that_is_refused_in_streams(code: object) -> None:
    error = error_in_stream({"message": "Incorrect API key provided: sk-1234.", "code": code})
    assert (error.message, error.quoted, error.retryable) == (KEY_REFUSED, False, False)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "No.", "code": 400}},
        {"error": "No.", "code": "400"},
        {"error": {"message": "No.", "code": 400}, "choices": []},
        [{"error": {"message": "No.", "code": 400}}],
        {"object": "error", "message": "No.", "type": "BadRequestError", "code": 400},
        {"type": "error", "message": "No.", "status": "invalid_argument"},
        {"detail": "No.", "status": 400},
        {"x_groq": {"error": {"message": "No.", "code": 400}}, "choices": []},
    ],
    ids=repr,
)
def test_events_that_are_errors(event: object) -> None:
    error = error_in_stream(error_of(event))
    assert (error.code, error.message) == ("invalid_prompt", "No.")


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"error": None, "choices": []},
        {"choices": [], "code": 400, "detail": "x"},
        {"type": "status", "message": "Loading.", "code": 20},
        {"x_groq": {"id": "req_1"}, "choices": []},
    ],
    ids=repr,
)
def test_events_that_are_none(event: object) -> None:
    assert error_of(event) is None
