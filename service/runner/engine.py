"""The run engine as the servicers see it: start a run, resume it, follow it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from service.errors import ApiError, Kind
from service.models.client import ChatModel
from service.runner import events
from service.runner.bus import InProcessBus, RunEvent
from service.runner.queue import InProcessQueue
from service.runner.reconciler import Reconciler, announce
from service.runner.said import Said
from service.runner.worker import Worker
from service.streams import with_silences
from storage import Storage
from storage.errors import NotFound
from storage.runs import Submitted
from storage.tables import ACTIVE, Run, RunStatus, Thread
from storage.transitions import Ended

SILENCE = 10.0
"""Seconds without an event after which a follower asks the database how its run is."""


class Engine:
    """A queue, a bus, a worker and a reconciler, wired together."""

    def __init__(
        self, storage: Storage, model: ChatModel, *, concurrency: int, lease_seconds: float
    ) -> None:
        """Executes runs of `storage` with `model`, up to `concurrency` at once."""
        self._storage = storage
        self._queue = InProcessQueue()
        self._bus = InProcessBus()
        self._worker = Worker(
            storage.claims,
            self._queue,
            self._bus,
            model,
            concurrency=concurrency,
            lease_seconds=lease_seconds,
        )
        self._reconciler = Reconciler(storage.sweep, self._queue, self._bus)

    async def work(self) -> None:
        """Executes runs until cancelled. Any exception is a defect of this program."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.work(), name="worker")
            group.create_task(self._reconciler.reconcile(), name="reconciler")

    async def drain(self, grace: float) -> None:
        """After `work` has ended: gives runs `grace` seconds to end, and ends every stream."""
        await self._worker.drain(grace)
        self._bus.close()

    async def start(self, run: Run, thread: Thread | None = None) -> int:
        """Hands a new run to the workers; returns its first event's number.

        With `thread`, which was created along with the run, the stream begins with it.
        """
        begin = [] if thread is None else [events.thread_created(thread)]
        first = await self._bus.publish(run.id, run.attempt, *begin, *events.run_created(run))
        await self._queue.put(run.id)
        return first

    async def resume(self, submitted: Submitted) -> int:
        """Hands a run that has its tool outputs to the workers; returns the next event's number."""
        run = submitted.run
        first = await self._bus.publish(
            run.id, run.attempt, events.step(submitted.step), *events.run(run)
        )
        await self._queue.put(run.id)
        return first

    async def announce(self, ended: Ended) -> None:
        """Tells followers and workers that a run was ended, or asked to stop, by a caller."""
        await announce(self._bus, ended)
        if ended.run.status == RunStatus.cancelling:
            # A run that no worker holds yet is ended by the reconciler.
            self._reconciler.wake()

    async def follow(self, run: Run, first: int) -> AsyncGenerator[RunEvent, None]:
        """Yields the run's events from number `first` on, up to `done` or `error`."""
        last, seen_ended = first - 1, False
        said = Said()
        source = with_silences(self._bus.subscribe(run.id, last), SILENCE)
        async with contextlib.aclosing(source):
            try:
                async for event in source:
                    if event is not None:
                        last = event.sequence_number
                        yield said.hear(event)
                        if event.event in events.END_OF_STREAM:
                            return
                        continue
                    # Its end may have been published where we did not hear of it.
                    now = await self._current(run)
                    if seen_ended:
                        for missed in _end(now, last):
                            yield missed
                        return
                    seen_ended = now is None or now.status not in ACTIVE
            except ApiError as error:
                yield _numbered(events.error(error), last + 1)

    async def _current(self, run: Run) -> Run | None:
        with contextlib.suppress(NotFound):
            return (await self._storage.runs.get(run.project_id, run.thread_id, run.id)).run
        return None


def _end(run: Run | None, last: int) -> list[RunEvent]:
    if run is None:
        gone = ApiError(Kind.not_found, "The run was deleted.")
        return [_numbered(events.error(gone), last + 1)]
    return [_numbered(event, number) for number, event in enumerate(events.run(run), last + 1)]


def _numbered(event: RunEvent, number: int) -> RunEvent:
    event.sequence_number = number
    return event
