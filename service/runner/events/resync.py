"""Publishes, from a run's rows, what its followers on this server lack of its events.

Without NATS, or while it is away, each server has a bus of its own, which carries what that server
publishes. A follower that finds its run paused or ended, and has no event of that, has published
what is missing.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

import orjson

from service.errors import EventsGone, RunDeleted
from service.runner.events import build
from service.runner.events.bus import EventBus
from service.runner.events.transcript import Transcript
from service.types.events import Event
from storage import Storage, rows
from storage.errors import NotFound
from storage.pages import PageRequest
from storage.tables import Message, MessageStatus, Run, RunStep, StepStatus
from storage.transitions import epoch


class Resync:
    """Reads what a stream lacks, and publishes it."""

    def __init__(self, storage: Storage, bus: EventBus) -> None:
        """Reads from `storage`, publishes on `bus`."""
        self._storage = storage
        self._bus = bus

    async def publish(self, run: Run, transcript: Transcript, last: int) -> None:
        """Publishes what a stream lacks of a run that has paused or ended.

        `transcript` and `last`, an event's number, are how far the stream has come: if its run goes
        on meanwhile, nothing is published. Raises RunDeleted; raises EventsGone when the stream
        lacks its beginning, so that what is missing is not known.
        """
        try:
            found = await self._storage.runs.get(run.project_id, run.thread_id, run.id)
            end = build.run(found.run, found.pending)
            if len(end) == 1 or _is_last(end[0], transcript):
                return
            if not transcript.whole:
                raise EventsGone(f"Another server executed run {run.id}: read it instead.")
            events = [event async for event in self._missing(found.run, transcript)]
            now = (await self._storage.runs.get(run.project_id, run.thread_id, run.id)).run
        except NotFound as error:
            raise RunDeleted from error
        # Resumed, it would have steps that do not belong before this end. Each change of a run that
        # is paused begins another epoch.
        if epoch(now) == epoch(found.run):
            # Not by the publisher: whoever made it happen has logged and counted it.
            await self._bus.publish_if_last(last, run.id, epoch(now), *events, *end)

    async def _missing(self, run: Run, transcript: Transcript) -> AsyncIterator[Event]:
        steps = [step async for step in self._steps(run, transcript.resumed)]
        known = {step.id for step in steps} | {_message_id(step) for step in steps}
        begun = [event for id, event in transcript.open.items() if id not in known]
        for event in build.withdrawals(begun, run.started_at):
            yield event
        for step in steps:
            if step.id in transcript.ended:
                continue
            if step.id not in transcript.open:
                for event in _opened(step):
                    yield event
            if (message_id := _message_id(step)) and message_id not in transcript.ended:
                # A caller may have deleted it.
                with contextlib.suppress(NotFound):
                    message = await self._storage.messages.get(
                        run.project_id, run.thread_id, message_id
                    )
                    for event in _message(message, transcript):
                        yield event
            if step.status != StepStatus.in_progress:
                yield build.step(step, run)

    async def _steps(self, run: Run, after: str | None) -> AsyncIterator[RunStep]:
        more = True
        while more:
            page = await self._storage.runs.list_steps(
                run.project_id,
                run.thread_id,
                run.id,
                PageRequest(limit=100, order="asc", after=after),
            )
            for step in page.data:
                yield step
                after = step.id
            more = page.has_more


def _is_last(end: Event, transcript: Transcript) -> bool:
    """Returns whether it is the very pause that the stream has shown last."""
    if transcript.run is None:
        return False
    shown, now = orjson.loads(transcript.run.data), orjson.loads(end.data)
    return all(shown[key] == now[key] for key in ("status", "required_action"))


def _message_id(step: RunStep) -> str | None:
    written = step.step_details.get("message_creation")
    return None if written is None else str(written["message_id"])


def _opened(step: RunStep) -> list[Event]:
    """Returns the beginning of a step that the stream lacks, with its calls."""
    row = _begun(step)
    calls = step.step_details.get("tool_calls")
    if calls is None:
        return build.step_opened(row)
    row.step_details = {"type": "tool_calls", "tool_calls": []}
    events = build.step_opened(row)
    for index, call in enumerate(calls):
        events += build.call_deltas(step.id, index, call)
    return events


def _message(message: Message, transcript: Transcript) -> list[Event]:
    """Returns what the stream lacks of a message: all, or the rest of its text and its end."""
    row, events = _begun(message), list[Event]()
    row.content = []
    if message.id not in transcript.open:
        events += build.message_opened(row)
    texts = transcript.texts(message.id)
    for index, part in enumerate(message.content):
        kind = part["type"]
        if kind == "image_file":
            if index not in texts:
                events.append(build.image_file_delta(message.id, index, part[kind]))
            continue
        whole = part["text"]["value"] if kind == "text" else part["refusal"]
        rest = whole[len(texts.get(index, "")) :]
        if index in texts and not rest:
            continue
        if kind == "text":
            events.append(build.text_delta(message.id, index, rest, first=index not in texts))
            annotations = part["text"]["annotations"]
            if annotations and index not in texts:
                numbered = [{"index": at, **each} for at, each in enumerate(annotations)]
                events.append(build.annotated_text_delta(message.id, index, "", numbered))
        else:
            events.append(build.refusal_delta(message.id, index, rest))
    if message.status != MessageStatus.in_progress:
        events.append(build.message(message))
    return events


Begun = TypeVar("Begun", RunStep, Message)


def _begun(row: Begun) -> Begun:
    """Returns the row as it was when it began, except for its content."""
    since = {"usage", "last_error", "incomplete_reason"}
    values = {
        name: value
        for name, value in rows.values(row).items()
        if name not in since and (name == "created_at" or not name.endswith("_at"))
    }
    return type(row)(**values | {"status": "in_progress"})
