"""Where all that happens to runs is told: to their followers, to the log, and to the metrics."""

import structlog

from service import metrics
from service.presentation.events import Event
from service.runner import events
from service.runner.bus import EventBus
from storage.transitions import Ended

log = structlog.get_logger(__name__)


class Journal:
    """The one way to the bus: nothing happens to a run that is not told here."""

    def __init__(self, bus: EventBus) -> None:
        """Publishes on `bus`."""
        self._bus = bus

    async def tell(self, run_id: str, attempt: int, *happened: Event) -> int:
        """Publishes a run's events and returns the first one's number.

        `attempt` is the run's, as for EventBus.publish. Each transition is a line of the log.
        """
        for event in happened:
            status = event.name.removeprefix(events.RUN)
            if events.shows_run(event) and status != events.CREATED:
                metrics.TRANSITIONS.labels(status).inc()
                log.info("run", run_id=run_id, status=status, attempt=attempt)
        return await self._bus.publish(run_id, attempt, *happened)

    async def tell_end(self, ended: Ended) -> None:
        """Publishes that a run was ended, or asked to stop, by someone else than its worker."""
        await self.tell(ended.run.id, ended.run.attempt, *events.ended(ended))
