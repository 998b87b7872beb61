"""What holds for the events of every stream, whatever the run does."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

OPENED = {"thread.run.step.created", "thread.message.created"}
DELTAS = {"thread.run.step.delta", "thread.message.delta"}
PAUSES = {"thread.run.requires_action"}
ENDS = {
    f"thread.run.{status}"
    for status in ("completed", "failed", "cancelled", "expired", "incomplete")
}


def check_stream(events: Sequence[tuple[str, Any]]) -> None:
    """Fails unless the events are those of a whole stream that the clients' helpers can follow."""
    names = [name for name, _ in events]
    assert names[-1] in ("done", "error"), f"the stream just stops: {names}"
    if names[-1] == "done":
        assert names[-2] in PAUSES | ENDS, f"done too early: {names}"
    opened: dict[str, Any] = {}
    so_far: dict[str, dict[int, str]] = defaultdict(lambda: defaultdict(str))
    for name, data in events:
        if name in OPENED:
            assert data["id"] not in opened, f"{data['id']} is created twice"
            opened[data["id"]] = data
            _check_empty(data)
        elif name in DELTAS:
            assert data["id"] in opened, f"a delta of {data['id']}, which was not created"
            _add(so_far[data["id"]], data["delta"])
        elif name.startswith("thread.message.") and data["id"] in opened:
            _check_message(name, data, so_far[data["id"]])
        elif name.startswith("thread.run.step.") and data["id"] in opened:
            _check_step(name, data, so_far[data["id"]])


def _check_empty(data: Any) -> None:
    assert data["status"] == "in_progress"
    if data["object"] == "thread.message":
        assert data["content"] == []
    elif data["type"] == "tool_calls":
        assert data["step_details"]["tool_calls"] == []


def _add(parts: dict[int, str], delta: Any) -> None:
    for part in delta.get("content", []):
        kind = part["type"]
        text = part[kind]["value"] if kind == "text" else part[kind]
        if kind == "text":
            assert ("annotations" in part["text"]) == (part["index"] not in parts)
        parts[part["index"]] += text
    for call in delta.get("step_details", {}).get("tool_calls", []):
        first = call["index"] not in parts
        assert ("id" in call, "name" in call["function"]) == (first, first)
        parts[call["index"]] += call["function"]["arguments"]


def _check_message(name: str, message: Any, so_far: dict[int, str]) -> None:
    if name.endswith((".completed", ".incomplete")):
        texts = [
            part["text"]["value"] if part["type"] == "text" else part["refusal"]
            for part in message["content"]
        ]
        deltas = [text for _, text in sorted(so_far.items())]
        assert texts == deltas, f"{name} says {texts}, its deltas {deltas}"


def _check_step(name: str, step: Any, so_far: dict[int, str]) -> None:
    if step["type"] == "tool_calls" and not name.endswith((".created", ".in_progress")):
        given = [call["function"]["arguments"] for call in step["step_details"]["tool_calls"]]
        deltas = [text for _, text in sorted(so_far.items())]
        assert given == deltas, f"{name} calls with {given}, its deltas {deltas}"
