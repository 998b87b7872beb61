"""One stream of a run's events: those on the bus, and those that another server published."""

import asyncio
import math

from service.errors import StreamError, from_exception
from service.runner.events import build
from service.runner.events.bus import EventBus
from service.runner.events.resync import Resync
from service.runner.events.status_batcher import StatusBatcher, Statuses
from service.runner.events.transcript import Transcript
from service.types.events import Event
from storage.tables import Run


class Follower:
    """The run's events from a number on, up to `done` or `error`.

    After `silence` seconds without one, it asks for the run's status.
    """

    def __init__(
        self,
        run: Run,
        first: int,
        transcript: Transcript,
        bus: EventBus,
        resync: Resync,
        status_batcher: StatusBatcher,
        silence: float,
    ) -> None:
        """Begins with the event of number `first`; `transcript` has those before it."""
        self.ended = False
        self._run = run
        self._last = first - 1
        self._transcript = transcript
        self._source = bus.subscribe(run.id, self._last)
        self._resync = resync
        self._status_batcher = status_batcher
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._ask_at = self._loop.time() + silence
        self._asked: asyncio.Future[Statuses] | None = None

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns what is ready, or what comes first; nothing after `seconds` of silence."""
        until = math.inf if seconds is None else self._loop.time() + seconds
        try:
            while True:
                wait = min(until, self._ask_at) - self._loop.time()
                if found := await self._source.take(max(wait, 0)):
                    self._ask_at = self._loop.time() + self._silence
                    return self._receive(found)
                if self._loop.time() >= self._ask_at:
                    await self._ask()
                if self._loop.time() >= until:
                    return []
        except StreamError as error:
            self.ended = True
            return [numbered(build.error(from_exception(error)), self._last + 1)]

    async def aclose(self) -> None:
        """Stops following."""
        await self._source.aclose()

    def _receive(self, found: list[Event]) -> list[Event]:
        received = []
        for event in found:
            self._last = event.number
            received.append(self._transcript.add(event))
            if event.name in build.END_OF_STREAM:
                # What follows belongs to the stream of whoever resumes the run.
                self.ended = True
                break
        return received

    async def _ask(self) -> None:
        """Asks for the run's status; if the last answer was a pause or an end, resyncs the stream.

        The answer can wait for the next silence: by then, no event of it is still on its way.
        """
        asked = self._asked
        if asked is None or asked.done():
            if asked is not None and asked.result().get(self._run.id) not in build.GOES_ON:
                await self._resync.publish(self._run, self._transcript, self._last)
            self._asked = self._status_batcher.ask(self._run.id)
        self._ask_at = self._loop.time() + self._silence


def numbered(event: Event, number: int) -> Event:
    """Returns an event that is of one stream only, with its number there."""
    event.number = number
    return event
