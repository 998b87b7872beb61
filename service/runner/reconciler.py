"""The reconciler: on every server, requeues orphaned runs and ends overdue ones."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from service.process import metrics
from service.process.waiting import wait_at_most
from service.runner.queue.queue import RunQueue
from storage.errors import Unreachable
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
    """Periodically requeues lost and orphaned runs, and ends cancelled and overdue ones.

    Its first round, with which a server starts, recovers what servers left that crashed.
    """

    def __init__(
        self, stale_runs: StaleRuns, queue: RunQueue, announce: Callable[[Ended], Awaitable[None]]
    ) -> None:
        """Finds and ends `stale_runs`; puts into `queue`, calls `announce` with what it ended."""
        self._stale_runs = stale_runs
        self._queue = queue
        self._announce = announce
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Begins a round now: there is something to do."""
        self._woken.set()

    async def reconcile(self) -> None:
        """Makes one round after the other until it is cancelled."""
        queued_for = 0.0
        while True:
            self._woken.clear()
            try:
                await self.round(queued_for)
                queued_for = QUEUED_FOR
            except Unreachable as error:
                # There is another round.
                log.warning("reconciler's round failed", reason=str(error))
            except Exception:
                log.warning("reconciler's round failed", exc_info=True)
            await wait_at_most(self._woken, PERIOD)

    async def round(self, queued_for: float) -> None:
        """Requeues what was lost or orphaned, and ends what was cancelled or is overdue."""
        stale = await self._stale_runs.find(queued_for)
        for run in stale.cancelling:
            await self._end(run.id, RunStatus.cancelled)
        for run in stale.overdue:
            await self._end(run.id, RunStatus.expired)
        for run in [*stale.queued, *stale.orphaned]:
            await self._queue.put(run.id, run.epoch, run.assistant_id)

    async def measure(self) -> None:
        """Counts the runs for the metrics, again and again, until it is cancelled."""
        while True:
            try:
                census = await self._stale_runs.census()
            except Unreachable as error:
                log.warning("runs not counted", reason=str(error))
            except Exception:
                log.warning("runs not counted", exc_info=True)
            else:
                for status in (*ACTIVE, WAITING):
                    metrics.RUNS.labels(status).set(census.runs.get(status, 0))
                metrics.QUEUE_DEPTH.set(census.runs.get(RunStatus.queued, 0))
                metrics.OLDEST_QUEUED.set(census.oldest_queued)
            await asyncio.sleep(MEASURE_SECONDS)

    async def _end(self, run_id: str, status: RunStatus) -> None:
        if (ended := await self._stale_runs.end(run_id, status)) is not None:
            await self._announce(ended)
