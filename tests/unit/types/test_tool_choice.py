"""Tools of the server's that requests choose."""

from typing import Any

import pytest

from service.errors import ApiError
from service.types import tool_choice
from service.types.json_value import from_python

PYTHON = {"type": "code_interpreter"}
SEARCH = {"type": "file_search"}


def test_it_may_be_chosen() -> None:
    chosen = tool_choice.parse("tool_choice", from_python(PYTHON))
    assert chosen == tool_choice.to_json(chosen) == PYTHON
    tool_choice.refuse_unknown(chosen, [SEARCH, PYTHON])
    assert tool_choice.to_proto(chosen).named.type == "code_interpreter"


@pytest.mark.parametrize(
    ("given", "among", "message"),
    [
        (
            PYTHON,
            [SEARCH],
            "Invalid 'tool_choice': there is no 'code_interpreter' among the tools.",
        ),
        (PYTHON | {"function": {"name": "f"}}, [PYTHON], "Unknown parameter: 'c.function'."),
    ],
)
def test_a_choice_that_is_refused(given: Any, among: list[Any], message: str) -> None:
    with pytest.raises(ApiError) as raised:
        tool_choice.refuse_unknown(tool_choice.parse("c", from_python(given)), among)
    assert raised.value.message == message
