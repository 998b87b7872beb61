"""Where all that happens to runs is told: to their followers, to the log, and to the metrics."""

import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping

import structlog

from service.errors import ApiError
from service.process import metrics
from service.runner.events import build
from service.runner.events.bus import EventBus
from service.runner.events.transcript import Transcript
from service.types.events import Event
from storage.claims import Withdrawn
from storage.rows import Run
from storage.tables import RunStatus
from storage.transitions import Ended

log = structlog.get_logger(__name__)


ANEW = frozenset({"thread.run.in_progress", "thread.run.requires_action", "thread.run.queued"})
"""Events behind which no attempt that was told of before goes on."""


class Publisher:
    """The one way to the bus: nothing happens to a run that is not told here."""

    def __init__(self, bus: EventBus) -> None:
        """Publishes on `bus`."""
        self._bus = bus

    async def tell(self, run_id: str, attempt: int, *happened: Event) -> int:
        """Publishes a run's events and returns the first one's number.

        `attempt` is the run's, as for EventBus.publish. Each transition is a line of the log.
        """
        for event in happened:
            status = event.name.removeprefix(build.RUN)
            if build.shows_run(event) and status != build.CREATED:
                metrics.TRANSITIONS.labels(status).inc()
                log.info("run", run_id=run_id, status=status, attempt=attempt)
        return await self._bus.publish(run_id, attempt, *happened)

    async def tell_end(self, ended: Ended) -> None:
        """Publishes that a run was ended, or asked to stop, by someone else than its worker.

        A worker of this server that holds it all the same must have been stopped.
        """
        run, withdrawn = ended.run, list[Event]()
        if run.status != RunStatus.cancelling:
            rows = {row.id for row in ended.messages} | {row.id for row in ended.steps}
            begun = await self._begun(run.id)
            withdrawn = _withdrawals(begun, run.cancelled_at, without=rows)
        await self.tell(run.id, run.attempt, *withdrawn, *build.ended(ended))

    async def withdraw(self, run: Run, rows: Withdrawn, at: int | None, *then: Event) -> None:
        """Publishes that what an attempt had begun is withdrawn at this time, and what comes then.

        Besides the rows, that is all that was told and has not ended: it may not have been stored.
        """
        begun = await self._begun(run.id)
        untold = Withdrawn(
            [step for step in rows.steps if step.id not in begun],
            [message for message in rows.messages if message.id not in begun],
        )
        withdrawn = [*build.withdrawn(untold, at), *_withdrawals(begun, at)]
        await self.tell(run.id, run.attempt, *withdrawn, *then)

    async def told(self, run_id: str, first: int, last: int) -> AsyncGenerator[Event, None]:
        """Yields the kept events numbered above `first`, up to `last`."""
        # What is dropped meanwhile is no reason to refuse the rest.
        with contextlib.suppress(ApiError):
            async with contextlib.aclosing(self._bus.subscribe(run_id, first)) as source:
                while first < last:
                    for event in await source.take():
                        if event.number > last:
                            return
                        first = event.number
                        yield event

    async def _begun(self, run_id: str) -> dict[str, Event]:
        """Returns what was told that an attempt has begun, and not that it ended, by id."""
        kept = await self._bus.kept(run_id)
        transcript = Transcript()
        if kept is not None and not kept.over:
            async with contextlib.aclosing(self.told(run_id, kept.after, kept.last)) as told:
                async for event in told:
                    transcript.hear(event)
                    if event.name in ANEW:
                        # What is open here belongs to a caller, or to another server's attempt.
                        transcript.open.clear()
        return transcript.open


def _withdrawals(
    begun: Mapping[str, Event], at: int | None, without: Collection[str] = ()
) -> list[Event]:
    """Returns the ends of what was told as begun, messages ahead of their steps."""
    found = [event for id, event in begun.items() if id not in without]
    found.sort(key=build.shows_step)
    return [build.withdrawal(event, at) for event in found]
