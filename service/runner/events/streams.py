"""Streams of a run's events: what the transports read, and where they get it."""

import contextlib
from collections.abc import Callable
from typing import Protocol

from service.errors import EventsGone, EventsNotPublished
from service.runner.events import build
from service.runner.events.bus import EventBus, Kept, kept_events
from service.runner.events.follower import Follower, numbered
from service.runner.events.resync import Resync
from service.runner.events.status_batcher import StatusBatcher
from service.runner.events.transcript import Transcript
from service.types.events import Event
from storage import Storage
from storage.tables import ACTIVE, Run

SILENCE = 10.0
"""Seconds without an event after which a follower asks for its run's status."""

BEGINNING = 3
"""As many events as a run can have before it is claimed: thread, run created, run queued."""


class EventStream(Protocol):
    """The events of a run, up to `done` or `error`."""

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def ended(self) -> bool:
        """Whether all has been taken."""

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns the next events, as many as are ready; none after `seconds` without one."""

    async def aclose(self) -> None:
        """Stops reading, wherever the stream is."""


class RunStreams:
    """Makes the streams of runs: the reading side of the bus, as Publisher is the writing side."""

    def __init__(self, storage: Storage, bus: EventBus) -> None:
        """Reads from `bus`, and from `storage` what other servers did."""
        self._bus = bus
        self._resync = Resync(storage, bus)
        self._status_batcher = StatusBatcher(storage.runs, SILENCE / 10)

    async def work(self) -> None:
        """Asks for the statuses of silent runs until cancelled."""
        await self._status_batcher.work()

    def follow(self, run: Run, first: int, transcript: Transcript | None = None) -> EventStream:
        """Returns the run's events from number `first` on, up to `done` or `error`.

        `transcript` has those before them.
        """
        return Follower(
            run,
            first,
            transcript or Transcript(),
            self._bus,
            self._resync,
            self._status_batcher,
            SILENCE,
        )

    async def replay(self, run: Run, after: int) -> EventStream:
        """Returns the run's events numbered above `after`, up to the next `done` or `error`.

        Raises EventsGone when some of them are not kept any more, EventsNotPublished when there is
        no event of number `after` yet.
        """
        kept = await self._bus.kept(run.id)
        if kept is None and run.attempt == 0 and run.status in ACTIVE:
            # Created before this server was started: nothing is lost to those who saw that.
            kept = Kept(min(after, BEGINNING), min(after, BEGINNING), over=False)
        if kept is None or after < kept.after:
            raise EventsGone(
                f"The events of run {run.id} after number {after} are not kept any more."
            )
        if after > kept.last:
            raise EventsNotPublished(
                f"Invalid 'after_sequence': run {run.id} has no event of number {after} yet."
            )
        if kept.over and after == kept.last:
            return FixedStream(run.id, numbered(build.done(), after))
        transcript, first = Transcript(whole=kept.after <= BEGINNING), kept.after
        source = kept_events(self._bus, run.id, first, after)
        async with contextlib.aclosing(source) as events:
            async for event in events:
                first = transcript.add(event).number
        transcript.whole = transcript.whole and first == after
        return self.follow(run, after + 1, transcript)


class FixedStream:
    """A stream of events that are there already."""

    def __init__(self, run_id: str, *events: Event) -> None:
        self.id = run_id
        self._events = [*events]
        self.ended = False

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns all of them."""
        self.ended = True
        return self._events

    async def aclose(self) -> None:
        """Does nothing."""


class DisconnectHook:
    """A stream that calls back when its reader leaves it before its end."""

    def __init__(self, stream: EventStream, disconnected: Callable[[], object]) -> None:
        """Reads `stream`; calls `disconnected` if it is closed too early, but not if it failed."""
        self._stream = stream
        self._disconnected = disconnected
        self._failed = False

    @property
    def id(self) -> str:
        """The run's id."""
        return self._stream.id

    @property
    def ended(self) -> bool:
        """Whether all has been taken."""
        return self._stream.ended

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns the stream's next events."""
        try:
            return await self._stream.take(seconds)
        except Exception:
            self._failed = True
            raise

    async def aclose(self) -> None:
        """Stops reading."""
        await self._stream.aclose()
        if not self.ended and not self._failed:
            self._disconnected()
