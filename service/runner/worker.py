"""The worker: takes runs from the queue, claims them, and executes several at once.

A run that is created while a slot is free is claimed with its creation, and takes no queue.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator

import structlog

from service.models.client import ChatModel
from service.process import metrics, tracing
from service.runner.attempt import Attempt
from service.runner.events.bus import Stop
from service.runner.events.publisher import Publisher
from service.runner.images import Images
from service.runner.limits import Limits
from service.runner.openings import PendingWrites
from service.runner.queue.queue import RunQueue
from service.runner.slots import Slots
from service.runner.tools.registry import Registry
from storage.claims import Claim, Claims
from storage.errors import FilesNotReady, NotYet, SessionElsewhere, Unreachable
from storage.tables import RunStatus
from storage.transitions import epoch

WATCH_SECONDS = 0.5
"""Seconds between two looks at the states of runs: cancellation takes effect within a second."""

FILES_SECONDS = 0.2
"""Seconds between two looks whether the files that a run waits for are ready."""

log = structlog.get_logger(__name__)


class Worker:
    """Executes up to `concurrency` runs at once."""

    def __init__(
        self,
        claims: Claims,
        queue: RunQueue,
        publisher: Publisher,
        model: ChatModel,
        tools: Registry,
        *,
        concurrency: int,
        limits: Limits,
        images: Images | None = None,
    ) -> None:
        """Takes from `queue`, writes through `claims`, publishes with `publisher`, asks `model`."""
        self._claims = claims
        self._queue = queue
        self._publisher = publisher
        self._model = model
        self._tools = tools
        self._limits = limits
        self._images = images
        self._slots = Slots(concurrency)
        self._attempts: dict[asyncio.Task[None], Attempt | None] = {}
        self._reserved: set[asyncio.Future[None]] = set()
        """Reservations that are open, for runs which are being created."""
        self._waits: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._releasing = False
        self.pending_writes = PendingWrites()

    async def work(self) -> None:
        """Takes runs until it is cancelled; those that are being executed go on."""
        try:
            while True:
                await self._queue.ready()
                # Who cannot claim leaves runs to others.
                await self._claims.database.wait()
                # Taken only when it can begin: until then, another group may have its turn.
                await self._slots.free()
                self._slots.take()
                run_id = None
                try:
                    run_id = await self._queue.take()
                finally:
                    if run_id is None:
                        self._slots.give_back()
                if run_id is not None:
                    self._begin(run_id, self._claim(run_id), None)
        finally:
            self._stopping = True

    @contextlib.contextmanager
    def reserve(self) -> Iterator["Reservation | None"]:
        """Reserves a slot for a run that is being created, if one is free and no run waits."""
        if self._stopping or not self._queue.empty or not self._slots.is_free:
            yield None
            return
        self._slots.take()
        over = asyncio.get_running_loop().create_future()
        self._reserved.add(over)
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            if not reservation.used:
                self._slots.give_back()
            self._reserved.discard(over)
            over.set_result(None)

    async def watch(self) -> None:
        """Reads, until it is cancelled, whether executed runs were cancelled or lost elsewhere.

        The database is the truth: a stop that was published may not have arrived.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            attempts = [each for each in self._attempts.values() if each is not None]
            if not attempts:
                continue
            try:
                held = await self._claims.held([each.claim for each in attempts])
            except Unreachable as error:
                log.warning("runs not watched", reason=str(error))
                continue
            except Exception:
                log.warning("runs not watched", exc_info=True)
                continue
            for attempt in attempts:
                status = held.get(attempt.claim.run.id)
                if status is None:
                    attempt.stop(Stop.lost)
                elif status == RunStatus.cancelling:
                    attempt.stop(Stop.cancelled)

    def stop(self, run_id: str, reason: Stop) -> None:
        """Stops the attempts at a run on this server, if there are any."""
        for attempt in self._attempts.values():
            if attempt is not None and attempt.claim.run.id == run_id:
                attempt.stop(reason)

    async def drain(self, grace: float) -> None:
        """Gives executed runs up to `grace` seconds to end, then releases the rest."""
        self._stopping = True
        for wait in self._waits:
            wait.cancel()
        # Meanwhile, runs can still be cancelled or lost elsewhere.
        watching = asyncio.create_task(self.watch(), name="watch while draining")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._idle()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self._releasing = True
        for attempt in self._attempts.values():
            if attempt is not None:
                attempt.stop(Stop.released)
        await self._idle()

    async def _idle(self) -> None:
        while busy := {*self._attempts, *self._reserved}:
            await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)

    def execute(self, claim: Claim) -> None:
        """Executes a claimed run in a slot that was taken for it."""
        attempt = self._attempt(claim)
        self._begin(claim.run.id, self._execute(attempt), attempt)

    def _begin(
        self, run_id: str, work: Coroutine[object, object, None], attempt: Attempt | None
    ) -> None:
        task = asyncio.create_task(work, name=f"attempt at {run_id}")
        self._attempts[task] = attempt
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._slots.give_back()
        if not task.cancelled() and (error := task.exception()):
            # Not even its end could be written: the lease runs out, and the run is taken up again.
            if isinstance(error, Unreachable):
                log.warning("database away", task=task.get_name(), error=str(error))
            else:
                log.error("attempt broke down", task=task.get_name(), exc_info=error)

    async def _claim(self, run_id: str) -> None:
        """Claims and executes a run from the queue, if it can be claimed."""
        structlog.contextvars.bind_contextvars(run_id=run_id)
        claim = None
        try:
            claim = await self._claims.claim(run_id)
        except FilesNotReady as wait:
            self._put_later(wait, FILES_SECONDS)
        except SessionElsewhere as wait:
            self._put_later(wait, 0.0)
        finally:
            # From here on, the lease holds it. What could not be claimed is put again.
            await self._queue.acknowledge(run_id)
        if claim is not None:
            task = asyncio.current_task()
            assert task is not None
            self._attempts[task] = attempt = self._attempt(claim)
            await self._execute(attempt)

    def _put_later(self, wait: NotYet, seconds: float) -> None:
        """Puts a run that could not be claimed back into the queue, once it is acknowledged."""
        again = asyncio.create_task(self._put_again(wait, seconds), name=f"wait of {wait.run_id}")
        self._waits.add(again)
        again.add_done_callback(self._waits.discard)

    async def _put_again(self, wait: NotYet, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._queue.put(wait.run_id, wait.epoch, wait.assistant_id, server=wait.server)

    def _attempt(self, claim: Claim) -> Attempt:
        # An older attempt of ours, whose lease ran out, must publish nothing: deltas need no claim.
        self.stop(claim.run.id, Stop.lost)
        if claim.reclaimed:
            metrics.RECLAIMED.inc()
        attempt = Attempt(
            claim,
            self._claims,
            self._publisher,
            self._model,
            self._tools,
            self._limits,
            self.pending_writes,
            self._images,
        )
        if self._releasing:
            attempt.stop(Stop.released)
        return attempt

    async def _execute(self, attempt: Attempt) -> None:
        run = attempt.claim.run
        structlog.contextvars.bind_contextvars(run_id=run.id)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": run.assistant_id,
            "gen_ai.conversation.id": run.thread_id,
            "assistants.project": run.project_id,
            "assistants.run.id": run.id,
            "assistants.run.attempt": run.attempt,
        }
        # From the queue, it comes without the call that has put it there.
        carrier = {tracing.TRACEPARENT: run.traceparent} if run.traceparent else None
        with (
            metrics.WORKING.track_inprogress(),
            tracing.span("run", attributes=attributes, carrier=carrier),
        ):
            released = await attempt.execute()
        if released is not None:
            await self._queue.put(released.id, epoch(released), released.assistant_id)


class Reservation:
    """A slot that is reserved for a run."""

    def __init__(self, worker: Worker) -> None:
        """Reserves a slot of `worker`."""
        self._worker = worker
        self.used = False

    def execute(self, claim: Claim) -> None:
        """Executes the claimed run in the slot."""
        self.used = True
        self._worker.execute(claim)
