"""The worker: takes runs from the queue, claims them, and executes several at once."""

import asyncio

import structlog

from service.models.client import ChatModel
from service.runner.attempt import Attempt, Stop
from service.runner.bus import EventBus
from service.runner.queue import RunQueue
from storage.claims import Claims

log = structlog.get_logger(__name__)


class Worker:
    """Executes up to `concurrency` runs at once."""

    def __init__(
        self,
        claims: Claims,
        queue: RunQueue,
        bus: EventBus,
        model: ChatModel,
        *,
        concurrency: int,
        lease_seconds: float,
    ) -> None:
        """Takes from `queue`, writes through `claims`, publishes on `bus`, asks `model`."""
        self._claims = claims
        self._queue = queue
        self._bus = bus
        self._model = model
        self._lease_seconds = lease_seconds
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
            # The lease runs out, and the run is taken up again.
            log.error("attempt broke down", task=task.get_name(), exc_info=error)

    def _stop_others(self, run_id: str) -> None:
        """Stops an attempt of ours whose lease has run out: its deltas need no claim to be sent."""
        for other in self._attempts.values():
            if other is not None and other.run_id == run_id:
                other.stop(Stop.lost)

    async def _execute(self, run_id: str) -> None:
        claim = await self._claims.claim(run_id)
        if claim is not None:
            attempt = Attempt(claim, self._claims, self._bus, self._model, self._lease_seconds)
            self._stop_others(run_id)
            task = asyncio.current_task()
            assert task is not None
            self._attempts[task] = attempt
            if self._releasing:
                attempt.stop(Stop.released)
            await attempt.execute()
        await self._queue.acknowledge(run_id)
