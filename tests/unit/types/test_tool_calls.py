"""Calls of tools in pieces: what streams show adds up to what steps hold."""

import copy
from typing import Any

import pytest

from service.types import tool_calls
from tests.support.types import samples


@pytest.mark.parametrize("call", samples.CALLS)
def test_the_pieces_of_a_call_make_it_up(call: dict[str, Any]) -> None:
    first, *later = tool_calls.pieces(3, call)
    made = copy.deepcopy({key: value for key, value in first.items() if key != "index"})
    for piece in later:
        assert piece.keys() == {"index", "type", call["type"]}
        tool_calls.add(made, piece[call["type"]])
    assert {piece["index"] for piece in (first, *later)} == {3}
    # What came of a function or a search is in no piece.
    expected = copy.deepcopy(call)
    if call["type"] == "function":
        expected["function"]["output"] = None
    elif call["type"] == "file_search":
        expected["file_search"]["results"] = []
    assert made == expected


def test_outputs_come_in_pieces_themselves() -> None:
    call = tool_calls.of_server("call_1", {"type": "code_interpreter"})
    image = {"index": 1, "type": "image", "image": {"file_id": "file-1"}}
    for outputs in (
        [{"index": 0, "type": "logs", "logs": "a"}],
        [{"index": 0, "type": "logs", "logs": "b"}, image],
        [{"index": 0, "type": "logs", "logs": "c"}, {"index": 2, "type": "logs", "logs": "d"}],
    ):
        tool_calls.add(call, {"outputs": outputs})
    assert call["code_interpreter"]["outputs"] == [
        {"type": "logs", "logs": "abc"},
        {"type": "image", "image": {"file_id": "file-1"}},
        {"type": "logs", "logs": "d"},
    ]
