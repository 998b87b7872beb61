"""What a server gets back with its own turns, besides what callers see of them."""

from typing import Any

import pytest

from tests.support.runs.prompts import Messages, called, context, message, output, run, spoke, turn
from tests.support.storage.rows import call


def kept(*calls: dict[str, Any], **turn: Any) -> dict[str, Any]:
    """Returns what a step keeps for its server."""
    return {"turn": turn, "calls": list(calls)}


async def test_a_turn_is_replayed_as_its_server_made_it(messages: Messages) -> None:
    signed = {"id": "a1B2c3D4e", "extra_content": {"google": {"s": "x"}}, "function": {"own": 1}}
    plain = {"id": "f5G6h7I8j"}
    step = called(
        call("call_1", "1"),
        call("call_2", "2"),
        replay=kept(signed, plain, reasoning_content="Hm.", reasoning_details=[{"t": "x"}]),
    )
    assert await messages(run(instructions=""), context(steps=(step,))) == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "reasoning_details": [{"t": "x"}],
            "tool_calls": [
                {
                    **turn("a1B2c3D4e"),
                    "extra_content": {"google": {"s": "x"}},
                    "function": {"name": "get_weather", "arguments": "{}", "own": 1},
                },
                turn("f5G6h7I8j"),
            ],
        },
        output("a1B2c3D4e", "1"),
        output("f5G6h7I8j", "2"),
    ]


@pytest.mark.parametrize(
    "theirs",
    [
        [{"id": "a"}, {"id": "a"}],
        [{"id": "a"}, {"id": ""}],
        [{"id": "a"}, {}],
        [{"own": 1}, {}],
        [],
    ],
)
async def test_ids_that_do_not_distinguish_calls_are_replaced(
    messages: Messages, theirs: list[dict[str, Any]]
) -> None:
    step = called(call("call_1", "1"), call("call_2", "2"), replay=kept(*theirs, own=1))
    again = called(call("call_3", "3"), replay=kept({"id": "a"}))
    first, *outputs, second, last = await messages(
        run(instructions=""), context(steps=(step, again))
    )
    assert first["own"] == 1
    assert [each["id"] for each in first["tool_calls"]] == ["call_1", "call_2"]
    assert outputs == [output("call_1", "1"), output("call_2", "2")]
    # Each turn is a case of its own.
    assert (second["tool_calls"], last) == ([turn("a")], output("a", "3"))


async def test_what_is_ours_of_a_turn_wins(messages: Messages) -> None:
    theirs = {"type": "own", "function": {"name": "own", "arguments": "own", "output": "own"}}
    fields = {"role": "own", "content": "own", "tool_calls": []}
    step = called(call("call_1", "1"), replay=kept(theirs, **fields))
    function = {"name": "get_weather", "arguments": "{}", "output": "own"}
    [asked, _] = await messages(run(instructions=""), context(steps=(step,)))
    assert asked == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }


async def test_a_message_step_keeps_fields_too(messages: Messages) -> None:
    spoken = (message("assistant", "One.", id="msg_1"), message("assistant", "Two.", id="msg_2"))
    steps = (
        spoke("msg_1", replay=kept(own=1)),
        called(call("call_1", "1"), replay=kept({}, more=2)),
        spoke("msg_2", replay=kept(own=3)),
        spoke("msg_gone", replay=kept(own=4)),
    )
    assert await messages(run(instructions=""), context(steps=steps, written=spoken)) == [
        {
            "role": "assistant",
            "content": "One.",
            "own": 1,
            "more": 2,
            "tool_calls": [turn("call_1")],
        },
        output("call_1", "1"),
        {"role": "assistant", "content": "Two.", "own": 3},
    ]
