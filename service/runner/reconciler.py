"""The reconciler: on every server, looks for runs that nobody cares for, and sees to them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from service.process import metrics
from service.runner.queue.queue import RunQueue
from storage.stale_runs import WAITING, StaleRuns
from storage.tables import ACTIVE, RunStatus
from storage.transitions import Ended

log = structlog.get_logger(__name__)

PERIOD = 1.0
"""Seconds between two rounds: expiry is noticed that fast."""

QUEUED_FOR = 5.0
"""Seconds after which a queued run may have been lost on its way to a worker."""


MEASURE_SECONDS = 5.0
"""How old the metrics of all servers' runs may be."""


class Reconciler:
    """Starting a server is nothing special: it is the first round."""

    def __init__(
        self, sweep: StaleRuns, queue: RunQueue, announce: Callable[[Ended], Awaitable[None]]
    ) -> None:
        """Reads and writes through `sweep`; puts into `queue`, has `announce` tell of ends."""
        self._sweep = sweep
        self._queue = queue
        self._announce = announce
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Asks for a round now: there is something to do."""
        self._woken.set()

    async def reconcile(self) -> None:
        """Makes one round after the other until it is cancelled."""
        queued_for = 0.0
        while True:
            self._woken.clear()
            try:
                await self.round(queued_for)
                queued_for = QUEUED_FOR
            except Exception:
                # The database is away: the next round will tell.
                log.warning("reconciler's round failed", exc_info=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), PERIOD)

    async def round(self, queued_for: float) -> None:
        """Queues what was lost, and ends what is overdue."""
        overdue = await self._sweep.overdue(queued_for)
        for run in overdue.cancelling:
            await self._end(run.id, RunStatus.cancelled)
        for run in overdue.expired:
            await self._end(run.id, RunStatus.expired)
        for run in [*overdue.queued, *overdue.orphaned]:
            await self._queue.put(run.id, run.assistant_id)

    async def measure(self) -> None:
        """Counts the runs for the metrics, again and again, until it is cancelled."""
        while True:
            try:
                census = await self._sweep.census()
            except Exception:
                log.warning("runs not counted", exc_info=True)
            else:
                for status in (*ACTIVE, WAITING):
                    metrics.RUNS.labels(status).set(census.runs.get(status, 0))
                metrics.QUEUE_DEPTH.set(census.runs.get(RunStatus.queued, 0))
                metrics.OLDEST_QUEUED.set(census.oldest_queued)
            await asyncio.sleep(MEASURE_SECONDS)

    async def _end(self, run_id: str, status: RunStatus) -> None:
        if (ended := await self._sweep.end(run_id, status)) is not None:
            await self._announce(ended)
