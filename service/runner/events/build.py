"""The events of a run's stream, made of rows and of pieces of an answer.

The names follow from the status of what they carry, as OpenAI's do: `thread.run.queued`.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from service.errors import ApiError
from service.types import deltas, include, messages, runs, steps, threads, tool_calls
from service.types.events import DONE, ERROR, Event
from storage import tables
from storage.claims import Withdrawn
from storage.transitions import Ended

CREATED = "created"
END_OF_STREAM = frozenset({DONE, ERROR})
GOES_ON = frozenset(
    {tables.RunStatus.queued, tables.RunStatus.in_progress, tables.RunStatus.cancelling}
)
"""Statuses with which a stream does not end."""

RUN = "thread.run."
STEP = "thread.run.step."
MESSAGE = "thread.message."
"""What the names begin with; the rest is a status, `created` or `delta`."""

MESSAGE_DELTA = f"{MESSAGE}delta"
_STEP_DELTA = f"{STEP}delta"

_OF_RUN = {f"{RUN}{status}" for status in (CREATED, *tables.RunStatus)}
_ENDS = {f"{RUN}{status}" for status in frozenset(tables.RunStatus) - frozenset(tables.ACTIVE)}


def _data(shown: dict[str, Any]) -> bytes:
    """Returns an event's data. It is kept for long, and orjson's own bytes hold 4 KiB at least."""
    return bytes(memoryview(orjson.dumps(shown)))


def shows_run(event: Event) -> bool:
    """Returns whether the event carries the run."""
    return event.name in _OF_RUN


def shows_step(event: Event) -> bool:
    """Returns whether the event is about a step."""
    return event.name.startswith(STEP)


def ends_run(event: Event) -> bool:
    """Returns whether it is the end of a run: no other event of the run but `done` follows."""
    return event.name in _ENDS


def thread_created(row: tables.Thread) -> Event:
    """Returns `thread.created`."""
    return Event("thread.created", _data(threads.to_json(row)))


def run(row: tables.Run, pending: tables.RunStep | None = None) -> list[Event]:
    """Returns `thread.run.<status>`, and `done` where the stream ends with it."""
    data = _data(runs.to_json(row, pending))
    event = Event(f"{RUN}{row.status}", data, extensions=runs.extensions(row))
    return [event] if row.status in GOES_ON else [event, done()]


def run_created(row: tables.Run) -> list[Event]:
    """Returns `thread.run.created` and `thread.run.queued`."""
    queued = run(row)
    return [_created(RUN, queued[0]), *queued]


def step(row: tables.RunStep, of: tables.Run | None = None) -> Event:
    """Returns `thread.run.step.<status>`.

    The run that it is of says what is shown besides what all may see; without it, that is nothing.
    """
    contents = of is not None and include.has_contents(of.include)
    return Event(f"{STEP}{row.status}", _data(steps.to_json(row, contents=contents)), row.id)


def message(row: tables.Message) -> Event:
    """Returns `thread.message.<status>`."""
    return Event(f"{MESSAGE}{row.status}", _data(messages.to_json(row)), row.id)


def step_opened(row: tables.RunStep) -> list[Event]:
    """Returns the two events of a step that begins."""
    begun = step(row)
    return [_created(STEP, begun), begun]


def message_opened(row: tables.Message) -> list[Event]:
    """Returns the two events of a message that begins."""
    begun = message(row)
    return [_created(MESSAGE, begun), begun]


def _created(kind: str, begun: Event) -> Event:
    return Event(f"{kind}{CREATED}", begun.data, begun.id, extensions=begun.extensions)


def ended(end: Ended) -> list[Event]:
    """Returns the events of a run that was not ended by its worker; its own come last."""
    return [
        *map(message, end.messages),
        *(step(each, end.run) for each in end.steps),
        *run(end.run),
    ]


def withdrawn(rows: Withdrawn, at: int | None) -> list[Event]:
    """Returns the events that withdraw what a dead attempt had begun."""
    return withdrawals([*map(message, rows.messages), *map(step, rows.steps)], at)


def withdrawals(begun: Iterable[Event], at: int | None) -> list[Event]:
    """Returns the ends of what was published as `begun`, messages ahead of their steps."""
    return [withdrawal(event, at) for event in sorted(begun, key=shows_step)]


def withdrawal(begun: Event, at: int | None) -> Event:
    """Returns the end of a message or a step that was published as `begun`, and is withdrawn."""
    shown = orjson.loads(begun.data)
    ended_at = at or shown["created_at"]
    if shows_step(begun):
        shown |= {"status": "failed", "failed_at": ended_at, "usage": steps.NO_USAGE}
        return Event(f"{STEP}failed", _data(shown), begun.id)
    shown |= {
        "status": "incomplete",
        "incomplete_details": {"reason": "run_failed"},
        "incomplete_at": ended_at,
    }
    return Event(f"{MESSAGE}incomplete", _data(shown), begun.id)


def text_delta(message_id: str, index: int, text: str, *, first: bool) -> Event:
    """Returns a piece of a message's text."""
    return _message_delta(message_id, deltas.text(message_id, index, text, first=first))


def refusal_delta(message_id: str, index: int, refusal: str) -> Event:
    """Returns a piece of a refusal."""
    return _message_delta(message_id, deltas.refusal(message_id, index, refusal))


def _message_delta(message_id: str, shown: dict[str, Any]) -> Event:
    return Event(MESSAGE_DELTA, _data(shown), message_id)


def annotated_text_delta(
    message_id: str, index: int, text: str, annotations: list[dict[str, Any]]
) -> Event:
    """Returns a later piece of a message's text, with annotations of it."""
    return _message_delta(message_id, deltas.annotated_text(message_id, index, text, annotations))


def image_file_delta(message_id: str, index: int, image: dict[str, Any]) -> Event:
    """Returns an image of a message."""
    return _message_delta(message_id, deltas.image_file(message_id, index, image))


def call_begun(step_id: str, index: int, call: dict[str, Any]) -> Event:
    """Returns the piece that introduces a call of a tool, which has just begun."""
    return _call_delta(step_id, tool_calls.first_piece(index, call))


def call_delta(step_id: str, index: int, type: str, details: dict[str, Any]) -> Event:
    """Returns a later piece of a call of a tool of this type."""
    return _call_delta(step_id, tool_calls.piece(index, type, details))


def call_deltas(step_id: str, index: int, call: dict[str, Any]) -> list[Event]:
    """Returns a call of a tool in pieces."""
    return [_call_delta(step_id, piece) for piece in tool_calls.pieces(index, call)]


def _call_delta(step_id: str, piece: dict[str, Any]) -> Event:
    return Event(_STEP_DELTA, _data(deltas.tool_call(step_id, piece)), step_id)


def error(cause: ApiError) -> Event:
    """Returns `error`: the server cannot go on with the stream.

    Its data has the error's four keys flat, as documented, and once more under `error`: the
    official Python client raises on the latter only.
    """
    body = cause.body()
    return Event(ERROR, _data({**body, "error": body}))


def done() -> Event:
    """Returns `done`: the stream is whole."""
    return Event(DONE, b"[DONE]")
