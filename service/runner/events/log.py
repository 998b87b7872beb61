"""The log of one run's events, in the memory of a server."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice, takewhile

from service.runner.events.build import ends_run
from service.runner.events.portions import Portion
from service.types.events import Event

OVERHEAD = 256
"""Bytes that an event takes beside its data."""


def size_of(event: Event) -> int:
    """Returns how many bytes an event takes."""
    return len(event.data) + OVERHEAD


@dataclass(slots=True)
class Log:
    """One run's events, and who waits for more of them."""

    last: int
    events: deque[Event] = field(default_factory=deque)
    size: int = 0
    base: int = 0
    """The number before its first event: the bus knows nothing of events up to it."""
    dropped: int = 0
    jumps: bool = False
    """Whether numbers are missing between its events."""
    over: bool = False
    touched: float = field(default_factory=time.monotonic)
    readers: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def append(self, event: Event) -> int:
        """Appends an event; returns by how many bytes the log has grown."""
        self.events.append(event)
        self.last = event.number
        self.over = self.over or ends_run(event)
        self.touched = time.monotonic()
        return self._resize(size_of(event))

    def wake(self) -> None:
        """Wakes all readers: there are events, or there will be none."""
        for waiter in self.waiting:
            _set(waiter)

    async def wait(self, seconds: float | None) -> None:
        """Returns when it has been woken, or after `seconds`."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _set, waiter)
        self.waiting.add(waiter)
        try:
            await waiter
        finally:
            self.waiting.discard(waiter)
            if timer is not None:
                timer.cancel()

    def since(self, after: int, most: int) -> list[Event]:
        """Returns the kept events numbered above `after`, the first `most` of them."""
        # From the end, where readers are: they come for each event of what may be a long log.
        if self.jumps:
            newer = takewhile(lambda event: event.number > after, reversed(self.events))
            count = sum(1 for _ in newer)
        else:
            count = min(max(self.last - after, 0), len(self.events))
        newest = list(islice(reversed(self.events), max(count - most, 0), count))
        newest.reverse()
        return newest

    def drop_first(self) -> int:
        """Drops the oldest event; returns as `append`."""
        event = self.events.popleft()
        self.dropped = event.number
        return self._resize(-size_of(event))

    def clear(self) -> int:
        """Drops all events; returns as `append`."""
        self.events.clear()
        self.jumps = False
        self.dropped = self.last
        return self._resize(-self.size)

    def append_all(self, portion: Portion) -> int:
        """Appends those of the portion's events that it lacks, which have their numbers.

        If others are missing between, it loses its own, so that nobody reads on as if none were.
        Returns as `append`.
        """
        lacking = [event for event in portion.events if event.number > self.last]
        if not lacking:
            return 0
        change, before = 0, lacking[0].number - 1
        if before > self.last:
            if portion.after > self.last:
                change = self.clear()
                self.dropped = before
            elif self.events:
                # Another server has lost count.
                self.jumps = True
            if not self.events:
                self.base = self.last = before
        return change + sum(map(self.append, lacking))

    def begin_after(self, number: int) -> None:
        """Forgets that a log without events has ever had some above this number."""
        self.last = self.base = self.dropped = number

    def _resize(self, change: int) -> int:
        self.size += change
        return change


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
