"""The edge reads bodies as JSON to the letter: whatever is JSON passes, and arrives as it was."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stack import Stack

# NUL and halves of characters are refused further on.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
EXACT = 2**53
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
SPACES = st.text(" \t\r\n", max_size=3)


@pytest.fixture(scope="module")
def client(server: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=60) as client:
        yield client


@settings(max_examples=200)
@given(value=st.dictionaries(TEXT, VALUES, max_size=4), ascii_only=st.booleans(), spaces=SPACES)
def test_json_passes(
    client: httpx2.Client, value: dict[str, Any], ascii_only: bool, spaces: str
) -> None:
    function = {"name": "f", "parameters": value}
    body = {"model": "m", "tools": [{"type": "function", "function": function}]}
    separators = (f"{spaces},{spaces}", f"{spaces}:{spaces}")
    text = json.dumps(body, ensure_ascii=ascii_only, separators=separators)
    answer = client.post("/assistants", content=(spaces + text + spaces).encode())
    assert answer.status_code == 200, answer.text
    assert answer.json()["tools"][0]["function"]["parameters"] == value
