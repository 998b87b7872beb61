"""The worker: takes runs from the queue, claims them, and executes several at once."""

import asyncio

import structlog

from service import metrics
from service.models.client import ChatModel
from service.runner.attempt import Attempt, Limits, Stop
from service.runner.journal import Journal
from service.runner.queue import RunQueue
from storage.claims import Claims
from storage.errors import Unreachable
from storage.tables import RunStatus

WATCH_SECONDS = 0.5
"""How soon a cancellation on another server is noticed, which is to be within a second."""

log = structlog.get_logger(__name__)


class Worker:
    """Executes up to `concurrency` runs at once."""

    def __init__(
        self,
        claims: Claims,
        queue: RunQueue,
        journal: Journal,
        model: ChatModel,
        *,
        concurrency: int,
        limits: Limits,
    ) -> None:
        """Takes from `queue`, writes through `claims`, tells `journal`, asks `model`."""
        self._claims = claims
        self._queue = queue
        self._journal = journal
        self._model = model
        self._limits = limits
        self._slots = asyncio.Semaphore(concurrency)
        self._attempts: dict[asyncio.Task[None], Attempt | None] = {}
        self._releasing = False

    async def work(self) -> None:
        """Takes runs until it is cancelled; those that are being executed go on."""
        while True:
            await self._slots.acquire()
            try:
                run_id = await self._queue.take()
            except BaseException:
                self._slots.release()
                raise
            task = asyncio.create_task(self._execute(run_id), name=f"attempt at {run_id}")
            self._attempts[task] = None
            task.add_done_callback(self._ended)

    async def watch(self) -> None:
        """Asks, until it is cancelled, whether what is executed was cancelled or lost elsewhere."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            attempts = [each for each in self._attempts.values() if each is not None]
            if not attempts:
                continue
            try:
                held = await self._claims.held([each.claim for each in attempts])
            except Exception:
                log.warning("runs not watched", exc_info=True)
                continue
            for attempt in attempts:
                status = held.get(attempt.claim.run.id)
                if status is None:
                    attempt.stop(Stop.lost)
                elif status == RunStatus.cancelling:
                    attempt.stop(Stop.cancelled)

    def stop(self, run_id: str, why: Stop) -> None:
        """Stops what this server executes of a run, if it does."""
        for attempt in self._attempts.values():
            if attempt is not None and attempt.claim.run.id == run_id:
                attempt.stop(why)

    async def drain(self, grace: float) -> None:
        """Gives what is executed up to `grace` seconds to end, then releases the rest."""
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace)
        self._releasing = True
        for attempt in self._attempts.values():
            if attempt is not None:
                attempt.stop(Stop.released)
        if self._attempts:
            await asyncio.wait(self._attempts)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._slots.release()
        if not task.cancelled() and (error := task.exception()):
            # Not even its end could be written: the lease runs out, and the run is taken up again.
            if isinstance(error, Unreachable):
                log.warning("database away", task=task.get_name(), error=str(error))
            else:
                log.error("attempt broke down", task=task.get_name(), exc_info=error)

    async def _execute(self, run_id: str) -> None:
        structlog.contextvars.bind_contextvars(run_id=run_id)
        claim = await self._claims.claim(run_id)
        if claim is not None:
            attempt = Attempt(claim, self._claims, self._journal, self._model, self._limits)
            # One of ours whose lease has run out must be silent: its deltas need no claim.
            self.stop(run_id, Stop.lost)
            if claim.reclaimed:
                metrics.RECLAIMED.inc()
            task = asyncio.current_task()
            assert task is not None
            self._attempts[task] = attempt
            if self._releasing:
                attempt.stop(Stop.released)
            with metrics.WORKING.track_inprogress():
                released = await attempt.execute()
            if released is not None:
                await self._queue.put(released.id, released.assistant_id)
        await self._queue.acknowledge(run_id)
