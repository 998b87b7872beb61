"""Turns of a model server with much that only it understands, each value of it with a mark in it.

No caller may ever see the mark. The server must get back all that it is in, while the run goes on.
"""

from typing import Any

from tests.support.script import Deltas

MARK = "Mk9zQ"
SPOKEN = "Let me look."
ANSWER = "Sunny."
FUNCTIONS = ("look", "listen")
OUTPUTS = ("sun", "birds")


def calls() -> Deltas:
    """A turn that speaks and calls both functions."""
    return Deltas(
        {"role": "assistant", "content": "", "reasoning_content": f"{MARK} I think,"},
        {"reasoning_content": " I look.", "reasoning_details": [{"data": f"{MARK}1"}]},
        {"content": SPOKEN, "reasoning_details": [{"data": f"{MARK}2"}]},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": f"{MARK}A001",
                    "type": "function",
                    "function": {"name": "look", "arguments": ""},
                    "extra_content": {"google": {"thought_signature": f"{MARK}3"}},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"at": "it"}'}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": f"{MARK}B002",
                    "type": "function",
                    "function": {"name": "listen", "arguments": "{}", "own": f"{MARK}4"},
                }
            ]
        },
        finish_reason="tool_calls",
    )


def answer() -> Deltas:
    """A turn that reasons in both ways and answers."""
    return Deltas(
        {"reasoning": f"{MARK} Hm."},
        {"content": f"<think>{MARK} Aha.</think>"},
        {"content": ANSWER},
    )


REPLAYED: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": SPOKEN,
        "reasoning_content": f"{MARK} I think, I look.",
        "reasoning_details": [{"data": f"{MARK}1"}, {"data": f"{MARK}2"}],
        "tool_calls": [
            {
                "id": f"{MARK}A001",
                "type": "function",
                "function": {"name": "look", "arguments": '{"at": "it"}'},
                "extra_content": {"google": {"thought_signature": f"{MARK}3"}},
            },
            {
                "id": f"{MARK}B002",
                "type": "function",
                "function": {"name": "listen", "arguments": "{}", "own": f"{MARK}4"},
            },
        ],
    },
    {"role": "tool", "tool_call_id": f"{MARK}A001", "name": "look", "content": "sun"},
    {"role": "tool", "tool_call_id": f"{MARK}B002", "name": "listen", "content": "birds"},
]
"""What the turn that calls and its outputs are in the next request of the run."""
