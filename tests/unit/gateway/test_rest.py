import json

import pytest

from gateway.rest import MAX_ERROR, error_header
from service.errors import ApiError, Kind


@pytest.mark.parametrize("message", ["short", "ü" * 9000, "😀" * 9000, '"\\\n\x7f' * 9000])
@pytest.mark.parametrize("param", [None, "metadata", "p" * 9000])
def test_an_error_fits_into_a_header(message: str, param: str | None) -> None:
    header = error_header(ApiError(Kind.invalid_value, message, param))
    assert len(header) <= MAX_ERROR
    assert header.isascii()
    assert header.isprintable()
    body = json.loads(header)["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert message.startswith(body["message"].removesuffix("…"))
    assert (body["param"] is None) == (param is None)
