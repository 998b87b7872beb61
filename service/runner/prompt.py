"""From a run and its thread to the request that its model gets."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from service.models import sizes
from service.models.sizes import Prompt
from service.models.tokens import TokenCounter
from service.runner.history import History, turn_of
from service.runner.images import Images
from service.runner.tools.registry import Toolbox
from storage.conversation import Context
from storage.tables import Run, RunStep

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


async def build(
    run: Run,
    history: History,
    toolbox: Toolbox,
    tokens: TokenCounter,
    max_bytes: int,
    images: Images | None = None,
) -> dict[str, Any]:
    """Returns the parameters of a chat completion. Raises OutOfTokens, Unreachable.

    Images that are files are read out of `images`.

    `max_prompt_tokens` is for all turns of the run together: what earlier ones took is used up. To
    keep to it, whole messages of the thread are left out, the oldest first. The newest message of
    the user stays, with all that follows it, and so does what the run itself has written and
    called: without any of these, the model would answer something else.

    So they are where the model's context is known, to keep each turn within it, with room for the
    answer, and where it is not, to keep the thread's turns within `max_bytes`. A prompt that is too
    long even so is built all the same: counts are not exact, and the server refuses in its own
    words what it cannot take. The truncation strategy `last_messages` limits the history, and is
    no different otherwise.
    """
    context = history.context
    own, excerpts = _own(context, toolbox)
    told = "\n\n".join(filter(None, [run.instructions, *excerpts]))
    system = [{"role": "system", "content": told}] if told else []
    request = _parameters(run, toolbox, context, own)
    if request.get("max_completion_tokens") == 0:
        # No model takes this for a limit.
        raise OutOfTokens("max_completion_tokens")
    rest = sizes.of_turns([*system, *own]).plus(sizes.of_options(request))

    def prompt(count: int) -> Prompt:
        def text() -> str:
            read = [*sizes.texts(system), *history.texts(count), *sizes.texts(own)]
            return "\n".join([*read, *sizes.option_texts(request)])

        return Prompt(run.model, rest.plus(history.size(count)), text)

    left = None
    if run.max_prompt_tokens is not None:
        left = run.max_prompt_tokens - _used(context.steps, "prompt_tokens")
    known = tokens.context(run.model)
    room = _room(known, request.get("max_completion_tokens"))
    budget = min((each for each in (left, room) if each is not None), default=None)

    async def fits(count: int) -> bool:
        if known is None and history.bytes(count) > max_bytes:
            return False
        return budget is None or await tokens.fits(prompt(count), budget)

    count = await _most(history, fits)
    if count is None:
        count = history.least or 0
        if left is not None and not await tokens.fits(prompt(count), left):
            raise OutOfTokens("max_prompt_tokens")
    shown = history.newest(count)
    if images is not None:
        shown = await images.shown(run.project_id, shown)
    request["messages"] = [*system, *shown, *own]
    # A long one is put into JSON next, in one go: others get their turn before.
    await asyncio.sleep(0)
    return request


async def _most(history: History, fits: Callable[[int], Awaitable[bool]]) -> int | None:
    """Returns how many of the newest turns fit; None where not even those do that must stay.

    Reads no further than it must. Halves the range again and again, so that few prompts have to be
    counted.
    """
    fitting = None
    while await fits(too_many := len(history)):
        fitting = too_many
        if not await history.extend():
            return fitting
    # What must stay begins with the newest turn of the user, however far back that is.
    while history.least is None and await history.extend():
        pass
    least = history.least or 0
    if fitting is None or fitting < least:
        if least >= too_many or not await fits(least):
            return None
        fitting = least
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if await fits(middle):
            fitting = middle
        else:
            too_many = middle
    return fitting


def _room(context: int | None, limit: int | None) -> int | None:
    """Returns how many tokens the prompt may take beside an answer of `limit` tokens.

    A limit is there to bound what is spent, and often far above what is: it gets no more than half.
    """
    if context is None:
        return None
    return context - (context // ANSWER_SHARE if limit is None else min(limit, context // 2))


def _parameters(run: Run, toolbox: Toolbox, context: Context, own: Sequence[Any]) -> dict[str, Any]:
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
    if toolbox.definitions:
        request["tools"] = [*toolbox.definitions]
        # A forced call is meant for the first turn: forced again after it, no run would end.
        forced = run.tool_choice not in ("none", "auto")
        request["tool_choice"] = None if own and forced else toolbox.choice(run.tool_choice)
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


def _own(context: Context, toolbox: Toolbox) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns what the run itself has written and called so far, as turns of the conversation.

    What only their server understands of them goes back to it as it came. What was called ahead of
    the model's first turn is no turn of it: only the outputs are returned, apart.
    """
    turns: list[dict[str, Any]] = []
    excerpts: list[str] = []
    for step in context.steps:
        replay = step.replay or {}
        if step.type == "message_creation":
            message_id = step.step_details["message_creation"]["message_id"]
            message = context.step_messages.get(message_id)
            if message and (turn := turn_of(message))["content"]:
                turns.append(replay.get("turn", {}) | turn)
            continue
        if _is_ahead(step, toolbox):
            excerpts += (each["output"] for each in replay["executed"])
            continue
        spoken = turns and turns[-1]["role"] == "assistant" and "tool_calls" not in turns[-1]
        turn = turns.pop() if spoken else {"role": "assistant", "content": None}
        calls = step.step_details["tool_calls"]
        # What the server has executed is kept as the model has called it, and was given it.
        executed = replay.get("executed") or [None] * len(calls)
        functions = [own or call["function"] for call, own in zip(calls, executed, strict=True)]
        sent = _calls([call["id"] for call in calls], functions, replay.get("calls"))
        turns.append(replay.get("turn", {}) | turn | {"tool_calls": sent})
        turns += [
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "name": function["name"],
                "content": function["output"],
            }
            for call, function in zip(sent, functions, strict=True)
        ]
    return turns, excerpts


def _is_ahead(step: RunStep, toolbox: Toolbox) -> bool:
    """Returns whether the server has called the tools of a step, and the model knows none."""
    executed = (step.replay or {}).get("executed") or [None]
    return all(each is not None and each["name"] in toolbox.ahead for each in executed)


def _calls(
    own_ids: Sequence[str],
    functions: Sequence[Mapping[str, Any]],
    replay: Sequence[Mapping[str, Any]] | None,
) -> list[dict[str, Any]]:
    """Returns the calls of a turn with what `replay` has of each, which may be of none.

    Their ids are the model server's if it gave each call one, and no two the same; else `own_ids`.
    """
    theirs: Sequence[Mapping[str, Any]] = replay or [{} for _ in functions]
    ids = [call.get("id") for call in theirs]
    if not all(ids) or len(set(ids)) < len(ids):
        ids = [*own_ids]
    return [
        {
            **own,
            "id": id,
            "type": "function",
            "function": {
                **own.get("function", {}),
                "name": function["name"],
                "arguments": function["arguments"],
            },
        }
        for function, own, id in zip(functions, theirs, ids, strict=True)
    ]
