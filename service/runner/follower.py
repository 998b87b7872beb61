"""One stream of a run's events: what the bus tells, and what was told on other servers."""

import asyncio
import math

from service.errors import ApiError
from service.presentation.events import Event
from service.runner import events
from service.runner.bus import EventBus
from service.runner.inquiry import Inquiry, Statuses
from service.runner.missed import Missed
from service.runner.said import Said
from storage.tables import Run


class Follower:
    """The run's events from a number on, up to `done` or `error`.

    Where nothing is heard for `silence` seconds, it asks how the run is.
    """

    def __init__(
        self,
        run: Run,
        first: int,
        said: Said,
        bus: EventBus,
        missed: Missed,
        inquiry: Inquiry,
        silence: float,
    ) -> None:
        """Begins with the event of number `first`; `said` has heard those before it."""
        self.ended = False
        self._run = run
        self._last = first - 1
        self._said = said
        self._source = bus.subscribe(run.id, self._last)
        self._missed = missed
        self._inquiry = inquiry
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
                    return self._hear(found)
                if self._loop.time() >= self._ask_at:
                    await self._ask()
                if self._loop.time() >= until:
                    return []
        except ApiError as error:
            self.ended = True
            return [numbered(events.error(error), self._last + 1)]

    async def aclose(self) -> None:
        """Stops following."""
        await self._source.aclose()

    def _hear(self, found: list[Event]) -> list[Event]:
        heard = []
        for event in found:
            self._last = event.number
            heard.append(self._said.hear(event))
            if event.name in events.END_OF_STREAM:
                # What follows belongs to the stream of whoever resumes the run.
                self.ended = True
                break
        return heard

    async def _ask(self) -> None:
        """Asks how the run is, and has the bus told what was missed by the last answer.

        The answer can wait for the next silence: by then it is no news that is still on its way.
        """
        asked = self._asked
        if asked is None or asked.done():
            if asked is not None and asked.result().get(self._run.id) not in events.GOES_ON:
                await self._missed.tell(self._run, self._said, self._last)
            self._asked = self._inquiry.ask(self._run.id)
        self._ask_at = self._loop.time() + self._silence


def numbered(event: Event, number: int) -> Event:
    """Returns an event that is of one stream only, with its number there."""
    event.number = number
    return event
