"""The event bus of a single server, in its memory: a log for each run."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from service.errors import BusClosed, EventsGone
from service.runner.events.build import ends_run
from service.runner.events.bus import EPOCH_NUMBERS, PORTION, Kept, Stop
from service.types.events import Event

OVERHEAD = 256
"""Bytes that an event takes beside its data."""


MAX_EMPTIED = 2**16
"""Runs of which the last number is remembered though none of their events is kept."""


_NOTHING = Kept(0, 0, over=False)


def size_of(event: Event) -> int:
    """Returns how many bytes an event takes."""
    return len(event.data) + OVERHEAD


@dataclass(slots=True)
class _Log:
    """One run's events, and who waits for more of them."""

    last: int
    events: deque[Event] = field(default_factory=deque)
    size: int = 0
    base: int = 0
    """The number before its first event: the bus knows nothing of events up to it."""
    dropped: int = 0
    over: bool = False
    touched: float = field(default_factory=time.monotonic)
    readers: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def append(self, event: Event) -> int:
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
        """Returns the kept events numbered above `after`, the first `most` of them.

        The numbers of one log have no gaps.
        """
        # From the end, where readers are: they come for each event of what may be a long log.
        count = min(max(self.last - after, 0), len(self.events))
        newest = list(islice(reversed(self.events), max(count - most, 0), count))
        newest.reverse()
        return newest

    def drop_first(self) -> int:
        event = self.events.popleft()
        self.dropped = self.last - len(self.events)
        return self._resize(-size_of(event))

    def clear(self) -> int:
        self.events.clear()
        self.dropped = self.last
        return self._resize(-self.size)

    def _resize(self, change: int) -> int:
        self.size += change
        return change


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class MemoryBus:
    """An EventBus whose logs are lost with its process; they are bounded in bytes and in time."""

    def __init__(self, *, keep_seconds: float = 600.0, max_bytes: int = 64 * 2**20) -> None:
        """Keeps a run's log for `keep_seconds` after its last event, all in `max_bytes`."""
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._size = 0
        self._closed = False
        self._receive_stop: list[Callable[[str, Stop], None]] = []
        self._logs: dict[str, _Log] = {}
        """All that have events or readers."""
        self._filled: OrderedDict[str, _Log] = OrderedDict()
        """Those that have events. The one that was written to last stands last."""
        self._emptied: OrderedDict[str, Kept] = OrderedDict()
        """What is remembered of runs that have neither: numbers must not be given twice."""

    async def publish(self, run_id: str, epoch: int, *events: Event) -> int:
        """Numbers and keeps the events, and wakes who follows the run."""
        log = self._log(run_id)
        if not log.events and log.base == log.last:
            log.last = log.base = max(log.last, epoch * EPOCH_NUMBERS)
        first = log.last + 1
        for number, event in enumerate(events, first):
            event.number = number
            self._size += log.append(event)
        if events:
            self._filled[run_id] = log
            self._filled.move_to_end(run_id)
            log.wake()
        self._forget()
        self._leave(run_id, log)
        return first

    async def publish_if_last(self, last: int, run_id: str, epoch: int, *events: Event) -> bool:
        """Publishes, unless the run's log has later events."""
        kept = await self.kept(run_id)
        if kept is not None and kept.last > last:
            return False
        await self.publish(run_id, epoch, *events)
        return True

    def subscribe(self, run_id: str, after: int) -> "_Reader":
        """Returns a reader of what is kept, then of what comes."""
        return _Reader(self, run_id, after)

    async def kept(self, run_id: str) -> Kept | None:
        """Returns the bounds of the run's log."""
        log = self._logs.get(run_id)
        if log is None:
            return self._emptied.get(run_id)
        return Kept(max(log.base, log.dropped), log.last, log.over) if log.last else None

    async def publish_stop(self, run_id: str, reason: Stop) -> None:
        """Calls every subscriber."""
        for receive in self._receive_stop:
            receive(run_id, reason)

    def subscribe_stops(self, receive: Callable[[str, Stop], None]) -> None:
        """Adds a subscriber."""
        self._receive_stop.append(receive)

    async def close(self) -> None:
        """Wakes all readers, and ends the subscriptions to stops."""
        self._closed = True
        self._receive_stop.clear()
        for log in self._logs.values():
            log.wake()

    def enter(self, run_id: str) -> _Log:
        """Adds a reader to the run's log, and returns that."""
        log = self._log(run_id)
        log.readers += 1
        return log

    def leave(self, run_id: str, log: _Log) -> None:
        """Removes a reader from the run's log."""
        log.readers -= 1
        self._leave(run_id, log)

    @property
    def closed(self) -> bool:
        """Whether there will be no more events."""
        return self._closed

    def _log(self, run_id: str) -> _Log:
        log = self._logs.get(run_id)
        if log is None:
            last, _, over = self._emptied.pop(run_id, _NOTHING)
            log = self._logs[run_id] = _Log(last, base=last, dropped=last, over=over)
        return log

    def _forget(self) -> None:
        """Drops what is too old or too much. A log is visited again only after it has changed."""
        now = time.monotonic()
        while self._filled:
            run_id, log = next(iter(self._filled.items()))
            if log.touched >= now - self._keep_seconds:
                break
            if log.readers:
                log.touched = now
                self._filled.move_to_end(run_id)
            else:
                self._size += log.clear()
                self._empty(run_id, log)
                if log.over:
                    del self._emptied[run_id]
        # Too many bytes: the run that was quiet for longest loses its oldest events first.
        while self._size > self._max_bytes:
            run_id, log = next(iter(self._filled.items()))
            self._size += log.drop_first()
            if not log.events:
                self._empty(run_id, log)

    def _empty(self, run_id: str, log: _Log) -> None:
        del self._filled[run_id]
        self._leave(run_id, log)

    def _leave(self, run_id: str, log: _Log) -> None:
        """Removes a log that has neither events nor readers; its last number is remembered."""
        if log.events or log.readers or self._logs.get(run_id) is not log:
            return
        del self._logs[run_id]
        if log.last:
            self._emptied[run_id] = Kept(log.last, log.last, log.over)
            if len(self._emptied) > MAX_EMPTIED:
                self._emptied.popitem(last=False)


class _Reader:
    """A reader of one log, which it enters when it first takes something."""

    def __init__(self, bus: MemoryBus, run_id: str, after: int) -> None:
        self._bus = bus
        self._run_id = run_id
        self._after = after
        self._log: _Log | None = None
        self._behind = False

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns what is ready, or what comes first; nothing after `seconds` of silence."""
        if self._log is None:
            self._log = self._bus.enter(self._run_id)
        if self._behind:
            # A reader of a long log lets other tasks run.
            await asyncio.sleep(0)
        if events := self._next(self._log):
            return events
        await self._log.wait(seconds)
        return self._next(self._log)

    def _next(self, log: _Log) -> list[Event]:
        if self._after < log.dropped:
            raise EventsGone(f"Events of {self._run_id} after {self._after} are gone.")
        events = log.since(self._after, PORTION)
        if events:
            self._after = events[-1].number
        elif self._bus.closed:
            # Not before: a reader that lags is to get the end of its run all the same.
            raise BusClosed
        self._behind = len(events) == PORTION
        return events

    async def aclose(self) -> None:
        """Leaves the log."""
        if self._log is not None:
            self._bus.leave(self._run_id, self._log)
            self._log = None
