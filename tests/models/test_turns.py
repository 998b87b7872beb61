"""Turns in the orders that strict chat templates take."""

from typing import Any

import pytest

from service.models.turns import BEGIN, GO_ON, alternating, with_content, without_system


def system(content: Any = "S") -> dict[str, Any]:
    return {"role": "system", "content": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
CALLS = assistant(None, tool_calls=[{"id": "a"}])
OUTPUT = {"role": "tool", "tool_call_id": "a", "content": "o"}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a")], [user("a")]),
        ([system(), user("a")], [user("S\n\na")]),
        ([system(), user([text("a"), IMAGE])], [user([text("S\n\n"), text("a"), IMAGE])]),
        ([system(), user([IMAGE])], [user([text("S"), IMAGE])]),
        ([system(), assistant("a"), user("b")], [user("S"), assistant("a"), user("b")]),
        ([system()], [user("S")]),
        ([system("S"), system("T"), user("a")], [user("S\n\nT\n\na")]),
        ([system(), user("a"), CALLS, OUTPUT], [user("S\n\na"), CALLS, OUTPUT]),
    ],
)
def test_without_system(turns: Any, expected: Any) -> None:
    before = repr(turns)
    assert without_system(turns) == expected
    assert repr(turns) == before


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a")], [user("a")]),
        ([user("a"), user("b"), user("c")], [user("a\n\nb\n\nc")]),
        ([system("S"), system("T"), user("a")], [system("S\n\nT"), user("a")]),
        (
            [user("a"), assistant("b"), assistant("c"), user("d")],
            [user("a"), assistant("b\n\nc"), user("d")],
        ),
        ([user("a"), user([text("b")])], [user([text("a\n\n"), text("b")])]),
        ([user([IMAGE]), user("b")], [user([IMAGE, text("b")])]),
        ([user([text("a")]), user([IMAGE])], [user([text("a"), IMAGE])]),
        # An assistant that speaks first, or last.
        ([assistant("a"), user("b")], [user(BEGIN), assistant("a"), user("b")]),
        ([system(), assistant("a"), user("b")], [system(), user(BEGIN), assistant("a"), user("b")]),
        ([user("a"), assistant("b")], [user("a"), assistant("b"), user(GO_ON)]),
        ([system()], [system(), user(BEGIN)]),
        ([], [user(BEGIN)]),
        # Calls, outputs, and turns with more than a content stay as they are.
        ([user("a"), CALLS, OUTPUT, OUTPUT], [user("a"), CALLS, OUTPUT, OUTPUT]),
        (
            [user("a"), assistant("b"), CALLS, OUTPUT],
            [user("a"), assistant("b"), CALLS, OUTPUT],
        ),
        (
            [user("a"), assistant("b", reasoning="r"), assistant("c"), user("d")],
            [user("a"), assistant("b", reasoning="r"), assistant("c"), user("d")],
        ),
    ],
)
def test_alternating(turns: Any, expected: Any) -> None:
    before = repr(turns)
    assert alternating(turns) == expected
    assert repr(turns) == before


def test_with_content() -> None:
    spoken = assistant("a", tool_calls=[{"id": "a"}])
    assert with_content([user("a"), CALLS, spoken, OUTPUT]) == [
        user("a"),
        {**CALLS, "content": ""},
        spoken,
        OUTPUT,
    ]
