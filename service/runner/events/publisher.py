"""Publishes what happens to runs: on the bus, in the log, and in the metrics."""

import contextlib

import structlog

from service.process import metrics
from service.runner.events import build
from service.runner.events.bus import EventBus, Stop, kept_events
from service.runner.events.transcript import Transcript
from service.types.events import Event
from storage.claims import Withdrawn
from storage.rows import Run
from storage.tables import RunStatus
from storage.transitions import Ended, epoch

log = structlog.get_logger(__name__)


RESTARTS = frozenset({"thread.run.in_progress", "thread.run.requires_action", "thread.run.queued"})
"""Events after which no attempt goes on that published before them."""


class Publisher:
    """The only writer of the bus, but for what completes streams (see resync.py)."""

    def __init__(self, bus: EventBus) -> None:
        """Publishes on `bus`."""
        self._bus = bus

    async def publish(self, run: Run, *events: Event) -> int:
        """Publishes events of a run and returns the first one's number.

        `run` is its row as of the events, which has their epoch. Each transition is a line of the
        log.
        """
        for event in events:
            status = event.name.removeprefix(build.RUN)
            if build.shows_run(event) and status != build.CREATED:
                metrics.TRANSITIONS.labels(status).inc()
                log.info("run", run_id=run.id, status=status, attempt=run.attempt)
        return await self._bus.publish(run.id, epoch(run), *events)

    async def publish_end(self, ended: Ended) -> None:
        """Publishes that a run was ended, or asked to stop, by others than its worker.

        A worker that holds it all the same, because it was stuck, is stopped before the end is
        published: nothing of its own may follow. One that is asked to stop publishes its own end.
        """
        run = ended.run
        if run.status == RunStatus.cancelling:
            await self.publish(run, *build.ended(ended))
            await self._bus.publish_stop(run.id, Stop.cancelled)
            return
        await self._bus.publish_stop(run.id, Stop.lost)
        rows = {row.id for row in ended.messages} | {row.id for row in ended.steps}
        begun = [event for id, event in (await self._open(run.id)).items() if id not in rows]
        withdrawn = build.withdrawals(begun, run.cancelled_at)
        await self.publish(run, *withdrawn, *build.ended(ended))

    async def withdraw(self, run: Run, rows: Withdrawn, at: int | None, *then: Event) -> None:
        """Publishes that what an attempt had begun is withdrawn at this time, and what comes then.

        Besides the rows, that is all that was published and has not ended: it may not be stored.
        What is stored as ended gets that end: only the answer to its commit was lost.
        """
        begun = await self._open(run.id)
        stored = [
            *map(build.message, rows.ended_messages),
            *(build.step(step, run) for step in rows.ended_steps),
        ]
        ends = [event for event in stored if event.id in begun]
        for event in ends:
            del begun[str(event.id)]
        unpublished = Withdrawn(
            [step for step in rows.steps if step.id not in begun],
            [message for message in rows.messages if message.id not in begun],
        )
        withdrawn = [*build.withdrawn(unpublished, at), *build.withdrawals(begun.values(), at)]
        await self.publish(run, *ends, *withdrawn, *then)

    async def _open(self, run_id: str) -> dict[str, Event]:
        """Returns what was published as begun by an attempt, and not as ended, by id."""
        kept = await self._bus.kept(run_id)
        transcript = Transcript()
        if kept is not None and not kept.over:
            source = kept_events(self._bus, run_id, kept.after, kept.last)
            async with contextlib.aclosing(source) as events:
                async for event in events:
                    transcript.add(event)
                    if event.name in RESTARTS:
                        # What is open here belongs to a caller, or to another server's attempt.
                        transcript.open.clear()
        return transcript.open
