"""From a run and its thread to the request that its model gets."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from service.models.tokens import TokenCounter
from storage.claims import Context
from storage.tables import Message, Run, RunStep

ANSWER_SHARE = 4
"""One part in so many of the model's context is kept for an answer that has no limit of its own."""


class OutOfTokens(Exception):
    """The run's budget does not suffice for another turn.

    `reason` is `max_prompt_tokens` where not even the newest user message fits in what is left of
    it, `max_completion_tokens` where earlier turns have used it up.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def build(run: Run, context: Context, tokens: TokenCounter) -> dict[str, Any]:
    """Returns the parameters of a chat completion. Raises OutOfTokens.

    `max_prompt_tokens` is for all turns of the run together: what earlier ones took is used up. To
    keep to it, whole messages of the thread are left out, the oldest first. The newest message of
    the user stays, with all that follows it, and so does what the run itself has said and called:
    without any of these, the model would answer something else.

    So they are where the model's context is known, to keep each turn within it, with room for the
    answer. A prompt that is too long even so is built all the same: counts are not exact, and the
    server refuses in its own words what it cannot take. The truncation strategy `last_messages` has
    limited the context's messages already, and is no different otherwise.
    """
    system = [{"role": "system", "content": run.instructions}] if run.instructions else []
    own = _own(context)
    thread = [turn for turn in map(_message, context.messages) if turn["content"]]
    request = _parameters(run, context, own)
    if request.get("max_completion_tokens") == 0:
        # No model takes this for a limit.
        raise OutOfTokens("max_completion_tokens")

    def without(first: int) -> dict[str, Any]:
        return request | {"messages": [*system, *thread[first:], *own]}

    left = None
    if run.max_prompt_tokens is not None:
        left = run.max_prompt_tokens - _used(context.steps, "prompt_tokens")
    room = _room(tokens.context(run.model), request.get("max_completion_tokens"))
    budget = min((each for each in (left, room) if each is not None), default=None)
    if budget is None:
        return without(0)

    async def fits(first: int) -> bool:
        return await tokens.fits(without(first), budget)

    users = (at for at in reversed(range(len(thread))) if thread[at]["role"] == "user")
    most = next(users, len(thread))
    first = await _least(fits, most)
    if first is None:
        if left is not None and not await tokens.fits(without(most), left):
            raise OutOfTokens("max_prompt_tokens")
        first = most
    return without(first)


def _room(context: int | None, limit: int | None) -> int | None:
    """Returns how many tokens the prompt may take beside an answer of `limit` tokens.

    A limit is there to bound what is spent, and often far above what is: it gets no more than half.
    """
    if context is None:
        return None
    return context - (context // ANSWER_SHARE if limit is None else min(limit, context // 2))


def _parameters(run: Run, context: Context, own: Sequence[Any]) -> dict[str, Any]:
    """Returns all parameters but the messages: what somebody chose, and nothing else.

    Some servers refuse even a parameter that has its default.
    """
    request: dict[str, Any] = {
        "model": run.model,
        "temperature": run.temperature,
        "top_p": run.top_p,
        "reasoning_effort": run.reasoning_effort,
        "max_completion_tokens": completion_budget(run, context.steps),
        "response_format": _response_format(run.response_format),
    }
    if run.tools:
        request["tools"] = run.tools
        # A forced call is meant for the first turn: forced again after it, no run would end.
        forced = run.tool_choice not in ("none", "auto")
        request["tool_choice"] = None if own and forced else run.tool_choice
        request["parallel_tool_calls"] = run.parallel_tool_calls
    return {name: value for name, value in request.items() if value is not None}


async def _least(fits: Callable[[int], Awaitable[bool]], most: int) -> int | None:
    """Returns how few of the oldest messages must go for the rest to fit.

    None where `most` of them are not enough. Halves the range again and again, so that few prompts
    have to be counted.
    """
    if await fits(0):
        return 0
    if most == 0 or not await fits(most):
        return None
    too_few = 0
    while most - too_few > 1:
        middle = (too_few + most) // 2
        if await fits(middle):
            most = middle
        else:
            too_few = middle
    return most


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
    """Returns a message as a turn; its content is empty where there is nothing to send.

    So it is where an answer was broken off by a crash, and where a model said nothing but blanks:
    servers refuse an empty turn, and would refuse it in every later run of the thread.
    """
    parts = list(filter(None, map(_part, message.content)))
    if message.role == "user" and any(part["type"] != "text" for part in parts):
        return {"role": "user", "content": parts}
    # Plain text is what every server understands; an assistant's turn cannot hold images.
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return {"role": message.role, "content": "\n".join(texts)}


def _part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns a part of a message as models read it; None where there is nothing to read."""
    match part:
        case {"type": "text", "text": {"value": str(text)}} | {"type": "refusal", "refusal": text}:
            return {"type": "text", "text": text} if text.strip() else None
        case {"type": "image_url", "image_url": image}:
            return {"type": "image_url", "image_url": image}
        case _:
            return None


def _own(context: Context) -> list[dict[str, Any]]:
    """Returns what the run itself has said and called so far, as turns of the conversation.

    What only their server understands of them goes back to it as it came.
    """
    turns: list[dict[str, Any]] = []
    for step in context.steps:
        replay = step.replay or {"turn": {}, "calls": []}
        if step.type == "message_creation":
            message_id = step.step_details["message_creation"]["message_id"]
            message = context.step_messages.get(message_id)
            if message and (turn := _message(message))["content"]:
                turns.append(replay["turn"] | turn)
            continue
        spoken = turns and turns[-1]["role"] == "assistant" and "tool_calls" not in turns[-1]
        turn = turns.pop() if spoken else {"role": "assistant", "content": None}
        calls = step.step_details["tool_calls"]
        sent = _calls(calls, replay["calls"])
        turns.append(replay["turn"] | turn | {"tool_calls": sent})
        turns += [
            {
                "role": "tool",
                "tool_call_id": theirs["id"],
                "name": ours["function"]["name"],
                "content": ours["function"]["output"],
            }
            for ours, theirs in zip(calls, sent, strict=True)
        ]
    return turns


def _calls(
    calls: Sequence[Mapping[str, Any]], replay: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the calls of a turn with what `replay` has of each, which may be of none.

    Their ids are the server's own if it gave each call one, and no two the same; else ours.
    """
    theirs = replay or [{} for _ in calls]
    ids = [call.get("id") for call in theirs]
    if not all(ids) or len(set(ids)) < len(ids):
        ids = [call["id"] for call in calls]
    return [
        {
            **own,
            "id": id,
            "type": "function",
            "function": {
                **own.get("function", {}),
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            },
        }
        for call, own, id in zip(calls, theirs, ids, strict=True)
    ]
