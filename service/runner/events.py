"""The events of a run's stream, made of rows and of pieces of an answer.

The names follow from the status of what they carry, as OpenAI's do: `thread.run.queued`.
"""

from assistants.v1 import common_pb2, events_pb2, messages_pb2, run_objects_pb2

from service.errors import ApiError
from service.presentation import messages, runs, steps, threads
from storage import tables
from storage.claims import Withdrawn
from storage.transitions import Ended

RunEvent = events_pb2.RunEvent

CREATED = "created"
END_OF_STREAM = frozenset({"done", "error"})
GOES_ON = frozenset(
    {tables.RunStatus.queued, tables.RunStatus.in_progress, tables.RunStatus.cancelling}
)
"""Statuses with which a stream does not end."""

_ENDS = frozenset(tables.RunStatus) - frozenset(tables.ACTIVE)


def thread_created(row: tables.Thread) -> RunEvent:
    """Returns `thread.created`."""
    return RunEvent(event="thread.created", thread=threads.to_proto(threads.to_json(row)))


def run(row: tables.Run, pending: tables.RunStep | None = None) -> list[RunEvent]:
    """Returns `thread.run.<status>`, and `done` where the stream ends with it."""
    shown = runs.to_proto(runs.to_json(row, pending), row.reasoning_effort)
    event = RunEvent(event=f"thread.run.{row.status}", run=shown)
    return [event] if row.status in GOES_ON else [event, done()]


def ends_run(event: RunEvent) -> bool:
    """Tells whether it is the end of a run: no other event of the run but `done` follows."""
    return event.HasField("run") and event.event.removeprefix("thread.run.") in _ENDS


def run_created(row: tables.Run) -> list[RunEvent]:
    """Returns `thread.run.created` and `thread.run.queued`."""
    queued = run(row)
    return [RunEvent(event="thread.run.created", run=queued[0].run), *queued]


def step(row: tables.RunStep, name: str | None = None) -> RunEvent:
    """Returns `thread.run.step.<name>`; its status is the name unless another is given."""
    return RunEvent(
        event=f"thread.run.step.{name or row.status}", run_step=steps.to_proto(steps.to_json(row))
    )


def message(row: tables.Message, name: str | None = None) -> RunEvent:
    """Returns `thread.message.<name>`; its status is the name unless another is given."""
    return RunEvent(
        event=f"thread.message.{name or row.status}",
        message=messages.to_proto(messages.to_json(row)),
    )


def step_opened(row: tables.RunStep) -> list[RunEvent]:
    """Returns the two events of a step that begins."""
    return [step(row, CREATED), step(row)]


def message_opened(row: tables.Message) -> list[RunEvent]:
    """Returns the two events of a message that begins."""
    return [message(row, CREATED), message(row)]


def ended(what: Ended) -> list[RunEvent]:
    """Returns the events of a run that was ended from outside, what it had open before it."""
    return [
        *map(message, what.messages),
        *map(step, what.steps),
        *run(what.run),
    ]


def withdrawn(what: Withdrawn, at: int | None) -> list[RunEvent]:
    """Returns the events that tell readers to forget what a dead attempt had begun."""
    begun = [*map(message, what.messages), *map(step, what.steps)]
    return [withdrawal(event, at) for event in begun]


def withdrawal(begun: RunEvent, at: int | None) -> RunEvent:
    """Returns the end of a message or a step that was told as `begun`, and is withdrawn."""
    event = RunEvent()
    event.CopyFrom(begun)
    if event.HasField("message"):
        event.event, row = "thread.message.incomplete", event.message
        row.status = messages_pb2.Message.incomplete
        details = messages_pb2.Message.IncompleteDetails(reason="run_failed")
        row.incomplete_details.CopyFrom(details)
        row.incomplete_at = at or row.created_at
    else:
        event.event = "thread.run.step.failed"
        event.run_step.status = run_objects_pb2.RunStep.failed
        event.run_step.failed_at = at or event.run_step.created_at
        event.run_step.usage.SetInParent()
    return event


def text_delta(message_id: str, index: int, text: str, *, first: bool) -> RunEvent:
    """Returns a piece of a message's text."""
    part = events_pb2.MessageDelta.ContentDelta(
        index=index, text=events_pb2.MessageDelta.TextDelta(value=text, first=first)
    )
    return _message_delta(message_id, part)


def refusal_delta(message_id: str, index: int, refusal: str) -> RunEvent:
    """Returns a piece of a refusal."""
    part = events_pb2.MessageDelta.ContentDelta(index=index, refusal=refusal)
    return _message_delta(message_id, part)


def _message_delta(message_id: str, part: events_pb2.MessageDelta.ContentDelta) -> RunEvent:
    delta = events_pb2.MessageDelta(id=message_id, content=[part])
    return RunEvent(event="thread.message.delta", message_delta=delta)


def call_begun(step_id: str, index: int, call_id: str, name: str) -> RunEvent:
    """Returns the first piece of a function call."""
    return _step_delta(step_id, index, id=call_id, name=name)


def call_arguments(step_id: str, index: int, arguments: str) -> RunEvent:
    """Returns a piece of a call's arguments."""
    return _step_delta(step_id, index, arguments=arguments)


def _step_delta(step_id: str, index: int, **piece: str) -> RunEvent:
    call = events_pb2.RunStepDelta.FunctionCallDelta(index=index, **piece)
    delta = events_pb2.RunStepDelta(id=step_id, tool_calls=[call])
    return RunEvent(event="thread.run.step.delta", run_step_delta=delta)


def error(cause: ApiError) -> RunEvent:
    """Returns `error`: the server cannot go on with the stream."""
    return RunEvent(event="error", error=common_pb2.Error(**cause.body()))


def done() -> RunEvent:
    """Returns `done`: the stream is whole."""
    return RunEvent(event="done", done=RunEvent.Done())
