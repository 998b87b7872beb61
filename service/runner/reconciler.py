"""The reconciler: on every server, looks for runs that nobody cares for, and sees to them."""

import asyncio
import contextlib

import structlog

from service.runner import events
from service.runner.bus import EventBus
from service.runner.queue import RunQueue
from storage.sweep import Sweep
from storage.tables import RunStatus
from storage.transitions import Ended

log = structlog.get_logger(__name__)

PERIOD = 1.0
"""Seconds between two rounds: expiry is noticed that fast."""

QUEUED_FOR = 5.0
"""Seconds after which a queued run may have been lost on its way to a worker."""


class Reconciler:
    """Starting a server is nothing special: it is the first round."""

    def __init__(self, sweep: Sweep, queue: RunQueue, bus: EventBus) -> None:
        """Reads and writes through `sweep`; puts into `queue`, publishes on `bus`."""
        self._sweep = sweep
        self._queue = queue
        self._bus = bus
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
        for run_id in overdue.cancelling:
            await self._end(run_id, RunStatus.cancelled)
        for run_id in overdue.expired:
            await self._end(run_id, RunStatus.expired)
        for run_id in [*overdue.queued, *overdue.orphaned]:
            await self._queue.put(run_id)

    async def _end(self, run_id: str, status: RunStatus) -> None:
        if (ended := await self._sweep.end(run_id, status)) is not None:
            log.info("run ended", run_id=run_id, status=status)
            await announce(self._bus, ended)


async def announce(bus: EventBus, ended: Ended) -> None:
    """Tells who follows a run that it was ended from outside."""
    await bus.publish(ended.run.id, ended.run.attempt, *events.ended(ended))
