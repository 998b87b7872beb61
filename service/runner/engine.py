"""The run engine as the servicers see it: start a run, resume it, follow it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from service.errors import ApiError, Kind
from service.models.client import ChatModel
from service.runner.events import build
from service.runner.events.bus import InProcessBus, Kept
from service.runner.events.follower import Follower, numbered
from service.runner.events.publisher import Publisher
from service.runner.events.resync import Resync
from service.runner.events.status_batcher import StatusBatcher
from service.runner.events.streams import EventStream, Finished
from service.runner.events.transcript import Transcript
from service.runner.limits import Limits
from service.runner.queue.queue import InProcessQueue
from service.runner.reconciler import Reconciler
from service.runner.stops import Stop
from service.runner.tools.registry import Registry
from service.runner.worker import Reservation, Worker
from storage import Storage
from storage.background import BackgroundTasks
from storage.claims import Claim
from storage.errors import NotCancellable, NotFound, StorageError
from storage.new_runs import Created
from storage.runs import Submitted
from storage.tables import ACTIVE, Run, RunStatus
from storage.transitions import Ended

SILENCE = 10.0
"""Seconds without an event after which a follower asks how its run is."""

BEGINNING = 3
"""As many events as a run can have before anybody touches it: thread, run created, run queued."""


Begun = tuple[Run, int]
"""A run in the hands of the workers, and the number of the first event of this call."""


class Engine:
    """A queue, a bus, a worker and a reconciler, wired together."""

    def __init__(
        self,
        storage: Storage,
        model: ChatModel,
        tools: Registry,
        *,
        concurrency: int,
        events_max_bytes: int,
        limits: Limits,
    ) -> None:
        """Executes runs of `storage` with `model` and `tools`, up to `concurrency` at once."""
        self._storage = storage
        self._queue = InProcessQueue()
        self._bus = InProcessBus(max_bytes=events_max_bytes)
        self._abandoned = BackgroundTasks(StorageError)
        self._publisher = Publisher(self._bus)
        self._resync = Resync(storage, self._bus)
        self._status_batcher = StatusBatcher(storage.runs, SILENCE / 10)
        self._worker = Worker(
            storage.claims,
            self._queue,
            self._publisher,
            model,
            tools,
            concurrency=concurrency,
            limits=limits,
        )
        self._reconciler = Reconciler(storage.stale_runs, self._queue, self.announce)

    async def work(self) -> None:
        """Executes runs until cancelled. Any exception is a defect of this program."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.work(), name="worker")
            group.create_task(self._worker.watch(), name="watch")
            group.create_task(self._status_batcher.work(), name="inquiry")
            group.create_task(self._reconciler.reconcile(), name="reconciler")
            group.create_task(self._reconciler.measure(), name="metrics")

    async def drain(self, grace: float) -> None:
        """After `work` has ended: gives runs `grace` seconds to end, and ends every stream."""
        await self._worker.drain(grace)
        # Storage is still there; what they cancel, the next server ends.
        await self._abandoned.settled()
        self._bus.close()

    async def start(self, create: Callable[[bool], Awaitable[Created]]) -> Begun:
        """Has a new run created and hands it to the workers.

        `create` is told whether to claim it: only if a worker is free and no run waits for one. The
        stream begins with the thread, where that is new, and with a run that is queued.
        """
        with self._worker.reserve() as reservation:
            created = await create(reservation is not None)
            run, thread = created.run, created.thread
            begin = [] if thread is None else [build.thread_created(thread)]
            first = await self._publisher.tell(run.id, run.attempt, *begin, *build.run_created(run))
            await self._hand_over(run, created.claim, reservation)
        return run, first

    async def resume(self, submit: Callable[[bool], Awaitable[Submitted]]) -> Begun:
        """Has a run given its tool outputs and hands it to the workers, as `start` does."""
        with self._worker.reserve() as reservation:
            submitted = await submit(reservation is not None)
            run = submitted.run
            first = await self._publisher.tell(
                run.id, run.attempt, build.step(submitted.step), *build.run(run)
            )
            await self._hand_over(run, submitted.claim, reservation)
        return run, first

    async def _hand_over(
        self, run: Run, claim: Claim | None, reservation: Reservation | None
    ) -> None:
        if claim is not None:
            assert reservation is not None
            reservation.execute(claim)
            # The worker begins before the stream is read, and what both tell first is one write.
            await asyncio.sleep(0)
        elif not run.waiting:
            await self._queue.put(run.id, run.assistant_id)

    async def settled(self, id: str) -> None:
        """Waits until what this server's streams have shown under an id is stored.

        The id is that of a message or a step, or, for all that they hold, of a thread or a run.
        """
        await self._worker.pending_writes.settled(id)

    async def announce(self, ended: Ended) -> None:
        """Tells followers and workers that a run was ended, or asked to stop, by others than them.

        A worker that holds it all the same, as it was stuck, must say nothing after its end.
        """
        if ended.run.status == RunStatus.cancelling:
            await self._publisher.tell_end(ended)
            self._worker.stop(ended.run.id, Stop.cancelled)
            # A run that no worker holds yet is ended by the reconciler.
            self._reconciler.wake()
        else:
            self._worker.stop(ended.run.id, Stop.lost)
            await self._publisher.tell_end(ended)
        if ended.released is not None:
            await self._queue.put(ended.released.id, ended.released.assistant_id)

    def abandon(self, run: Run) -> None:
        """Cancels a run whose caller has gone away, unless it has ended."""
        self._abandoned.let_go(self._abandoned.begin(self._cancel(run)))

    async def _cancel(self, run: Run) -> None:
        with contextlib.suppress(NotFound, NotCancellable):
            ended = await self._storage.runs.cancel(run.project_id, run.thread_id, run.id)
            await self.announce(ended)

    async def replay(self, run: Run, after: int) -> EventStream:
        """Returns the run's events numbered above `after`, up to the next `done` or `error`.

        Raises ApiError: `events_gone` when some of them are not kept any more.
        """
        kept = await self._bus.kept(run.id)
        if kept is None and run.attempt == 0 and run.status in ACTIVE:
            # Created before this server was started: nothing is lost to those who saw that.
            kept = Kept(min(after, BEGINNING), min(after, BEGINNING), over=False)
        if kept is None or after < kept.after:
            raise ApiError(
                Kind.events_gone,
                f"The events of run {run.id} after number {after} are not kept any more.",
            )
        if after > kept.last:
            raise ApiError(
                Kind.invalid_value,
                f"Invalid 'after_sequence': run {run.id} has no event of number {after} yet.",
                "after_sequence",
            )
        if kept.over and after == kept.last:
            return Finished(numbered(build.done(), after))
        transcript, first = Transcript(whole=kept.after <= BEGINNING), kept.after
        async with contextlib.aclosing(self._publisher.told(run.id, first, after)) as told:
            async for event in told:
                first = transcript.hear(event).number
        transcript.whole = transcript.whole and first == after
        return self.follow(run, after + 1, transcript)

    def follow(self, run: Run, first: int, transcript: Transcript | None = None) -> EventStream:
        """Returns the run's events from number `first` on, up to `done` or `error`.

        `transcript` has heard those before them.
        """
        return Follower(
            run,
            first,
            transcript or Transcript(),
            self._bus,
            self._resync,
            self._status_batcher,
            SILENCE,
        )
