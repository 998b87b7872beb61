"""Tools of the server's, on a server that executes one of them: requests may name it."""

from typing import Any

import pytest

from service.errors import ApiError
from service.types import tool_choice, tools
from service.types.json_value import from_python

PYTHON = {"type": "code_interpreter"}
SEARCH = {"type": "file_search"}


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SERVED", frozenset({"code_interpreter"}))


def test_runs_may_have_it_and_no_other() -> None:
    tools.refuse_unavailable([PYTHON])
    with pytest.raises(ApiError, match="Tool 'file_search' is not available"):
        tools.refuse_unavailable([PYTHON, SEARCH])


def test_it_may_be_chosen() -> None:
    chosen = tool_choice.parse("tool_choice", from_python(PYTHON))
    assert chosen == tool_choice.to_json(chosen) == PYTHON
    tool_choice.refuse_unknown(chosen, [SEARCH, PYTHON])
    assert tool_choice.to_proto(chosen).named.type == "code_interpreter"


@pytest.mark.parametrize(
    ("given", "among", "message"),
    [
        (SEARCH, [SEARCH], "Tool 'file_search' is not available on this server."),
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
