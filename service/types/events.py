"""Events of a run's stream: their data is OpenAI's JSON, rendered once, for all who read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from assistants.v1 import events_pb2

from service.types import deltas, messages, runs, steps, threads

DONE = "done"
ERROR = "error"


@dataclass(slots=True)
class Event:
    """One event. Whoever follows a run gets the same one: it does not change once published."""

    name: str
    data: bytes
    """JSON, or `[DONE]`."""
    id: str | None = None
    """The message or the step that it is about."""
    extensions: Mapping[str, Any] | None = None
    """Fields of a run that only protobuf shows: OpenAI's JSON has no key for them."""
    number: int = 0
    """Its place in the run's log, given when it is published."""


def to_proto(event: Event) -> events_pb2.RunEvent:
    """Returns the same in protobuf."""
    return events_pb2.RunEvent(
        sequence_number=event.number, event=event.name, **_data_fields(event)
    )


def _data_fields(event: Event) -> dict[str, Any]:
    if event.name == DONE:
        return {"done": {}}
    value = orjson.loads(event.data)
    if event.name == ERROR:
        return {"error": {key: value[key] for key in ("message", "type", "param", "code")}}
    if value["object"] == "thread.run":
        return {"run": runs.to_fields(value, event.extensions or {})}
    name, fields = _DATA[value["object"]]
    return {name: fields(value)}


_DATA: Mapping[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "thread": ("thread", threads.to_fields),
    "thread.message": ("message", messages.to_fields),
    "thread.message.delta": ("message_delta", deltas.message_to_fields),
    "thread.run.step": ("run_step", steps.to_fields),
    "thread.run.step.delta": ("run_step_delta", deltas.step_to_fields),
}
