"""The turns of a conversation in the orders that servers with strict chat templates take."""

from collections.abc import Mapping, Sequence
from typing import Any

Turn = Mapping[str, Any]

BEGIN = "Begin the conversation."
"""What the user says ahead of an assistant that speaks first."""

GO_ON = "Go on."
"""What the user says after an assistant that speaks last."""

_FIELDS = frozenset(("role", "content", "tool_calls", "tool_call_id"))
_CALL_FIELDS = frozenset(("id", "type", "function"))
_FUNCTION_FIELDS = frozenset(("name", "arguments"))

_MERGED = ("user", "assistant", "system")


def without_system(turns: Sequence[Turn]) -> list[Turn]:
    """Returns turns with the system's texts at the beginning of the first turn, which is a user's.

    If the first turn is not the user's, or there is none, they are a turn of their own.
    """
    texts = [turn for turn in turns if turn["role"] == "system"]
    if not texts:
        return list(turns)
    others = [turn for turn in turns if turn["role"] != "system"]
    first: Turn = {"role": "user", "content": texts[0]["content"]}
    for turn in texts[1:]:
        first = {"role": "user", "content": _joined(first["content"], turn["content"])}
    if others and others[0]["role"] == "user":
        joined = _joined(first["content"], others[0]["content"])
        return [{**others[0], "content": joined}, *others[1:]]
    return [first, *others]


def alternating(turns: Sequence[Turn]) -> list[Turn]:
    """Returns turns in which neighbours of one role are one turn, a blank line between.

    Turns with anything besides a content, such as calls, and those of tools stay as they are. An
    assistant has neither the first word nor the last.
    """
    result: list[Turn] = []
    for turn in turns:
        if result and _may_be_one(result[-1], turn):
            content = _joined(result[-1]["content"], turn["content"])
            result[-1] = {"role": turn["role"], "content": content}
        else:
            result.append(turn)
    first = next((at for at, turn in enumerate(result) if turn["role"] != "system"), len(result))
    if first == len(result) or result[first]["role"] == "assistant":
        result.insert(first, {"role": "user", "content": BEGIN})
    if result[-1]["role"] == "assistant":
        result.append({"role": "user", "content": GO_ON})
    return result


def with_content(turns: Sequence[Turn]) -> list[Turn]:
    """Returns turns in which those that only call functions have an empty text."""
    return [
        {**turn, "content": ""} if turn.get("tool_calls") and turn.get("content") is None else turn
        for turn in turns
    ]


def plain(turns: Sequence[Turn]) -> list[Turn]:
    """Returns turns without fields that only some servers understand."""

    def call(whole: Mapping[str, Any]) -> dict[str, Any]:
        function = _only(whole["function"], _FUNCTION_FIELDS)
        return _only(whole, _CALL_FIELDS) | {"function": function}

    return [
        _only(turn, _FIELDS)
        | (
            {"tool_calls": [call(each) for each in turn["tool_calls"]]}
            if "tool_calls" in turn
            else {}
        )
        for turn in turns
    ]


def others(turns: Sequence[Turn]) -> set[str]:
    """Returns the names of the fields that `plain` leaves out."""
    names: set[str] = set()
    for turn in turns:
        names |= turn.keys() - _FIELDS
        for call in turn.get("tool_calls") or ():
            names |= (call.keys() - _CALL_FIELDS) | (call["function"].keys() - _FUNCTION_FIELDS)
    return names


def _only(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key in names}


def _may_be_one(first: Turn, second: Turn) -> bool:
    return (
        first["role"] == second["role"]
        and first["role"] in _MERGED
        and first.keys() == second.keys() == {"role", "content"}
    )


def _joined(first: str | list[Any], second: str | list[Any]) -> str | list[Any]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    ahead, behind = _parts(first), _parts(second)
    if ahead and behind and ahead[-1]["type"] == behind[0]["type"] == "text":
        ahead[-1] = {**ahead[-1], "text": f"{ahead[-1]['text']}\n\n"}
    return [*ahead, *behind]


def _parts(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
