"""From a run and its thread to the request that its model gets."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from storage.claims import Context
from storage.tables import Message, Run, RunStep

CHARACTERS_PER_TOKEN = 4
"""A common estimate for English text."""

TOKENS_PER_MESSAGE = 4
"""What a chat template adds to a message, about."""


class PromptTooLong(Exception):
    """Not even the newest user message fits in `max_prompt_tokens`."""


def build(run: Run, context: Context) -> dict[str, Any]:
    """Returns the parameters of a chat completion. Raises PromptTooLong."""
    system = [{"role": "system", "content": run.instructions}] if run.instructions else []
    own = _own(context)
    # What an answer had said that was broken off by a crash is not known: it has no content.
    thread = [_message(message) for message in context.messages if message.content]
    if run.max_prompt_tokens is not None:
        used = _used(context.steps, "prompt_tokens")
        thread = _newest(thread, run.max_prompt_tokens - used - _estimate([*system, *own]))
    request: dict[str, Any] = {
        "model": run.model,
        "messages": [*system, *thread, *own],
        "temperature": run.temperature,
        "top_p": run.top_p,
        "reasoning_effort": run.reasoning_effort,
        "max_completion_tokens": completion_budget(run, context.steps),
        "response_format": _response_format(run.response_format),
    }
    if run.tools:
        request["tools"] = run.tools
        # A forced call is meant for the first turn: forced again after it, no run would end.
        request["tool_choice"] = "auto" if own else run.tool_choice
        request["parallel_tool_calls"] = run.parallel_tool_calls
    return {name: value for name, value in request.items() if value is not None}


def completion_budget(run: Run, steps: Iterable[RunStep]) -> int | None:
    """Returns how many tokens the run may still write, at least 0; None for any number."""
    if run.max_completion_tokens is None:
        return None
    return max(run.max_completion_tokens - _used(steps, "completion_tokens"), 0)


def _used(steps: Iterable[RunStep], kind: str) -> int:
    return sum(step.usage[kind] for step in steps if step.usage)


def _response_format(value: Any) -> Any:
    return None if value == "auto" or value["type"] == "text" else value


def _message(message: Message) -> dict[str, Any]:
    if all(part["type"] == "text" for part in message.content):
        # Plain text is what every server understands.
        text = "\n".join(part["text"]["value"] for part in message.content)
        return {"role": message.role, "content": text}
    parts = filter(None, map(_part, message.content))
    if message.role == "user":
        return {"role": "user", "content": list(parts)}
    # An assistant's turn cannot hold images.
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return {"role": "assistant", "content": "\n".join(texts)}


def _part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    match part["type"]:
        case "text":
            return {"type": "text", "text": part["text"]["value"]}
        case "refusal":
            return {"type": "text", "text": part["refusal"]}
        case "image_url":
            return {"type": "image_url", "image_url": part["image_url"]}
        case _:
            return None


def _own(context: Context) -> list[dict[str, Any]]:
    """Returns what the run itself has said and called so far, as turns of the conversation."""
    turns: list[dict[str, Any]] = []
    for step in context.steps:
        if step.type == "message_creation":
            message_id = step.step_details["message_creation"]["message_id"]
            if message := context.step_messages.get(message_id):
                turns.append(_message(message))
            continue
        calls = step.step_details["tool_calls"]
        spoken = turns and turns[-1]["role"] == "assistant" and "tool_calls" not in turns[-1]
        turn: dict[str, Any] = turns[-1] if spoken else {"role": "assistant", "content": None}
        turn["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {key: call["function"][key] for key in ("name", "arguments")},
            }
            for call in calls
        ]
        if not spoken:
            turns.append(turn)
        turns += [
            {"role": "tool", "tool_call_id": call["id"], "content": call["function"]["output"]}
            for call in calls
        ]
    return turns


def _newest(turns: Sequence[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Returns the newest turns that fit in `budget` tokens: never without the last of the user."""
    kept: list[dict[str, Any]] = []
    must_keep = next((turn for turn in reversed(turns) if turn["role"] == "user"), None)
    for turn in reversed(turns):
        budget -= _estimate([turn])
        if budget < 0:
            break
        kept.append(turn)
    if must_keep is not None and not any(turn is must_keep for turn in kept):
        raise PromptTooLong
    return kept[::-1]


def _estimate(turns: Iterable[Mapping[str, Any]]) -> int:
    return sum(
        TOKENS_PER_MESSAGE + len(json.dumps(turn, ensure_ascii=False)) // CHARACTERS_PER_TOKEN
        for turn in turns
    )
