"""What a stream shows of each object must hang together, and be what is stored."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from assistants.v1.messages_pb2 import Message
from assistants.v1.run_objects_pb2 import Run as ProtoRun
from assistants.v1.run_objects_pb2 import RunStep

from service.types import answers
from storage import Storage
from storage.pages import PageRequest
from storage.tables import Run
from tests.support.runs.reading import RunEvent
from tests.support.storage.rows import PROJECT

ACTION = ["thread.run.requires_action", "done"]
ALL = PageRequest(limit=100)


@dataclass
class Shown:
    """What a stream has shown of the steps and messages of its run: ids, and texts by id."""

    open: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, list[Any]] = field(default_factory=dict)


def check_stream(events: Sequence[RunEvent], *, interrupted: bool) -> None:
    """Fails unless the events follow from each other; an interrupted stream may lack some."""
    shown = Shown()
    for event in events:
        kind = str(event.WhichOneof("data"))
        name = event.event.rpartition(".")[2]
        match kind:
            case "run":
                status = event.run.Status.Name(event.run.status)
                assert status == ("queued" if name == "created" else name)
            case "run_step":
                status = event.run_step.Status.Name(event.run_step.status)
                assert status == ("in_progress" if name == "created" else name)
                _show(shown, event, event.run_step.id, name, interrupted)
            case "message":
                status = event.message.Status.Name(event.message.status)
                assert status == ("in_progress" if name == "created" else name)
                _show(shown, event, event.message.id, name, interrupted)
            case "message_delta":
                assert event.message_delta.id in shown.open
                text = "".join(part.text.value for part in event.message_delta.content)
                shown.texts[event.message_delta.id] = (
                    shown.texts.get(event.message_delta.id, "") + text
                )
                annotations = shown.annotations.setdefault(event.message_delta.id, [])
                for part in event.message_delta.content:
                    numbers = range(len(annotations), len(annotations) + len(part.text.annotations))
                    assert [each.index for each in part.text.annotations] == [*numbers]
                    annotations += [each.annotation for each in part.text.annotations]
            case "run_step_delta":
                assert event.run_step_delta.id in shown.open
    if not interrupted and [event.event for event in events[-2:]] == ACTION:
        [step] = shown.open
        assert step.startswith("step_")
    elif not interrupted:
        assert shown.open == set()


def _show(shown: Shown, event: RunEvent, id: str, name: str, interrupted: bool) -> None:
    assert id not in shown.ended
    if name == "created":
        assert id not in shown.open
        shown.open.add(id)
        return
    # A step that waited for outputs was begun in an earlier stream.
    assert id in shown.open or interrupted or event.event == "thread.run.step.completed", (
        event.event
    )
    if name == "in_progress":
        return
    shown.open.discard(id)
    shown.ended.add(id)
    if event.HasField("message") and (id in shown.texts or not interrupted):
        whole = "".join(part.text.value for part in event.message.content)
        assert whole == shown.texts.get(id, "")
        annotations = [each for part in event.message.content for each in part.text.annotations]
        assert annotations == shown.annotations.get(id, [])
        assert all(whole[each.start_index : each.end_index] == each.text for each in annotations)


async def check_stored(storage: Storage, run: Run, streams: Sequence[Sequence[RunEvent]]) -> None:
    """Fails unless the ends that the streams of a run have shown are what storage has."""
    steps = await storage.runs.list_steps(PROJECT, run.thread_id, run.id, ALL)
    messages = await storage.messages.list(PROJECT, run.thread_id, ALL, run.id)
    stored: Any = {row.id: answers.to_proto(row, RunStep) for row in steps.data}
    written: Any = {row.id: answers.to_proto(row, Message) for row in messages.data}
    found = await storage.runs.get(PROJECT, run.thread_id, run.id)
    now: Any = answers.to_proto(found.run, ProtoRun)
    for event in itertools.chain(*streams):
        if event.HasField("run") and event.run.status == now.status:
            assert event.run == now, (event.run, now)
        elif event.HasField("run_step"):
            _check_step(event, stored.get(event.run_step.id))
        elif event.HasField("message"):
            _check_message(event, written.get(event.message.id))


def _check_step(event: RunEvent, stored: RunStep | None) -> None:
    if stored is None:
        # A dead attempt had begun it: it is withdrawn.
        assert event.event.endswith((".created", ".in_progress", ".failed"))
    elif not event.event.endswith((".created", ".in_progress")):
        assert event.run_step == stored, (event.run_step, stored)


def _check_message(event: RunEvent, stored: Message | None) -> None:
    if stored is None:
        assert event.event.endswith((".created", ".in_progress", ".incomplete"))
    elif not event.event.endswith((".created", ".in_progress")):
        if not stored.content:
            # Its writer could not write it: only those who received it know its text.
            event.message.ClearField("content")
        assert event.message == stored, (event.message, stored)
