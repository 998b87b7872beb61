"""The run engine as the servicers see it: start a run, resume it, end it, read its streams."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from service.models.client import ChatModel
from service.runner.events import build
from service.runner.events.bus import EventBus
from service.runner.events.publisher import Publisher
from service.runner.events.streams import RunStreams
from service.runner.images import Images
from service.runner.limits import Limits
from service.runner.queue.queue import RunQueue
from service.runner.reconciler import Reconciler
from service.runner.tools.registry import Registry
from service.runner.worker import Reservation, Worker
from storage import Storage
from storage.background import BackgroundTasks
from storage.claims import Claim
from storage.errors import NotCancellable, NotFound, StorageError
from storage.new_runs import Created
from storage.runs import Submitted
from storage.tables import Run, RunStatus
from storage.transitions import Ended, epoch

Begun = tuple[Run, int]
"""A run that was handed to the workers, and the number of the first event of this call."""


class Engine:
    """A worker and a reconciler on a queue and a bus, which it owns."""

    def __init__(
        self,
        storage: Storage,
        model: ChatModel,
        tools: Registry,
        bus: EventBus,
        queue: RunQueue,
        *,
        concurrency: int,
        limits: Limits,
        images: Images | None = None,
    ) -> None:
        """Executes runs of `storage` with `model` and `tools`, up to `concurrency` at once.

        With 0, it executes none: those that it starts are left to other servers.
        """
        self._works = concurrency > 0
        self._storage = storage
        self._tools = tools
        self._queue = queue
        self._bus = bus
        self._background = BackgroundTasks(StorageError)
        self._publisher = Publisher(bus)
        self.streams = RunStreams(storage, bus)
        self.list_models = model.list_models
        self._worker = Worker(
            storage.claims,
            queue,
            self._publisher,
            model,
            tools,
            concurrency=concurrency,
            limits=limits,
            images=images,
        )
        bus.subscribe_stops(self._worker.stop)
        self._reconciler = Reconciler(storage.stale_runs, queue, self.announce)

    async def open(self) -> None:
        """Makes the bus and the queue ready. Raises SettingsError."""
        await self._bus.open()
        await self._queue.open()

    async def work(self) -> None:
        """Executes runs until cancelled. Any exception is a defect of this program."""
        async with asyncio.TaskGroup() as group:
            if self._works:
                group.create_task(self._worker.work(), name="worker")
            group.create_task(self._worker.watch(), name="watch")
            group.create_task(self.streams.work(), name="status batcher")
            group.create_task(self._reconciler.reconcile(), name="reconciler")
            group.create_task(self._reconciler.measure(), name="metrics")

    async def drain(self, grace: float) -> None:
        """After `work` has ended: gives runs `grace` seconds to end, and ends every stream."""
        await self._worker.drain(grace)
        # Storage is still open: runs that are cancelled now are ended by the next server.
        await self._background.join_all()
        await self._queue.close()
        await self._bus.close()

    async def start(self, create: Callable[..., Awaitable[Created]]) -> Begun:
        """Creates a run with `create` and hands it to the workers.

        `create` is given `claim`, whether to claim the run: only if a worker is free and no run
        waits for one. The stream begins with the thread, where that is new, and with a run that is
        queued.
        """
        with self._worker.reserve() as reservation:
            created = await create(claim=reservation is not None)
            run, thread = created.run, created.thread
            begin = [] if thread is None else [build.thread_created(thread)]
            first = await self._publisher.publish(run, *begin, *build.run_created(run))
            await self._hand_over(run, created.claim, reservation)
        return run, first

    async def resume(self, submit: Callable[..., Awaitable[Submitted]]) -> Begun:
        """Gives a run its tool outputs with `submit` and hands it to the workers, as in `start`."""
        with self._worker.reserve() as reservation:
            submitted = await submit(claim=reservation is not None)
            run = submitted.run
            events = [build.step(submitted.step, run), *build.run(run)]
            first = await self._publisher.publish(run, *events)
            await self._hand_over(run, submitted.claim, reservation)
        return run, first

    async def _hand_over(
        self, run: Run, claim: Claim | None, reservation: Reservation | None
    ) -> None:
        if claim is not None:
            assert reservation is not None
            reservation.execute(claim)
            # The attempt begins before the stream is read: what both publish first is one write.
            await asyncio.sleep(0)
        elif not run.waiting:
            await self._queue.put(run.id, epoch(run), run.assistant_id)

    async def settled(self, id: str) -> None:
        """Waits until what this server's streams have shown under an id is stored.

        The id is that of a message or a step, or, for all that they hold, of a thread or a run.
        """
        await self._worker.pending_writes.settled(id)

    async def announce(self, ended: Ended) -> None:
        """Publishes that a run was ended, or asked to stop, by others than its worker."""
        await self._publisher.publish_end(ended)
        if ended.run.status == RunStatus.cancelling:
            # A run that no worker holds yet is ended by the reconciler.
            self._reconciler.wake()
        if (released := ended.released) is not None:
            await self._queue.put(released.id, epoch(released), released.assistant_id)

    def forget(self, thread_id: str) -> None:
        """Lets the tools drop what they keep of a thread that is deleted."""
        self._background.detach(self._background.start(self._tools.forget(thread_id)))

    def abandon(self, run: Run) -> None:
        """Cancels a run whose caller has gone away, unless it has ended."""
        self._background.detach(self._background.start(self._cancel(run)))

    async def _cancel(self, run: Run) -> None:
        with contextlib.suppress(NotFound, NotCancellable):
            ended = await self._storage.runs.cancel(run.project_id, run.thread_id, run.id)
            await self.announce(ended)
