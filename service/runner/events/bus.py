"""The event bus: what runs publish, numbered and kept, for whoever follows them."""

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

from service.errors import ApiError, Kind
from service.runner.events.build import ends_run
from service.types.events import Event

PORTION = 64
"""Events that a reader takes from a log at once: what a slow one holds takes memory."""

OVERHEAD = 256
"""Bytes that an event takes beside its data."""


MOST_EMPTIED = 2**16
"""Runs of which the last number is remembered though none of their events is kept."""


class Kept(NamedTuple):
    """Which events of a run are kept: those numbered above `after`, up to `last`."""

    after: int
    last: int
    over: bool
    """Whether the run's end has been told: none will follow."""


_NOTHING = Kept(0, 0, over=False)


class EventBus(Protocol):
    """Numbers each run's events, strictly increasing, and keeps them for a while."""

    async def publish(self, run_id: str, attempt: int, *events: Event) -> int:
        """Sets the events' numbers, keeps them, and returns the first number.

        Never waits for readers. `attempt` is the run's: numbers jump with it where the bus has lost
        count, so that they increase over a restart too.
        """

    async def publish_behind(self, last: int, run_id: str, attempt: int, *events: Event) -> bool:
        """Publishes as above, but only if there is no event above number `last`; tells whether."""

    def subscribe(self, run_id: str, after: int) -> "Subscription":
        """Returns a reader of the run's events above number `after`: those kept, then new ones."""

    async def kept(self, run_id: str) -> Kept | None:
        """Returns which events of the run are kept, or None if it knows of none."""


class Subscription(Protocol):
    """One reader of a run's events, which never end."""

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns the next events, as many as there are but no more than PORTION.

        Waits for the first of them; after `seconds` without one, returns none. Raises ApiError:
        `events_gone` when some are not kept any more, `unavailable` when the bus closes.
        """

    async def aclose(self) -> None:
        """Leaves the run to others."""


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
        """Wakes all who wait: there are events, or there will be none."""
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


class InProcessBus:
    """The bus of a single server: a log for each run, bounded in bytes and time."""

    def __init__(self, *, keep_seconds: float = 600.0, max_bytes: int = 64 * 2**20) -> None:
        """Keeps a run's log for `keep_seconds` after its last event, all in `max_bytes`."""
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._size = 0
        self._closed = False
        self._logs: dict[str, _Log] = {}
        """All that have events or readers."""
        self._filled: OrderedDict[str, _Log] = OrderedDict()
        """Those that have events. The one that was written to last stands last."""
        self._emptied: OrderedDict[str, Kept] = OrderedDict()
        """What is remembered of runs that have neither: numbers must not be given twice."""

    async def publish(self, run_id: str, attempt: int, *events: Event) -> int:
        """Numbers and keeps the events, and wakes who follows the run."""
        log = self._log(run_id)
        if not log.events and log.base == log.last:
            log.last = log.base = max(log.last, attempt << 20)
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

    async def publish_behind(self, last: int, run_id: str, attempt: int, *events: Event) -> bool:
        """Publishes, unless the run's log has gone on."""
        kept = await self.kept(run_id)
        if kept is not None and kept.last > last:
            return False
        await self.publish(run_id, attempt, *events)
        return True

    def subscribe(self, run_id: str, after: int) -> "_Reader":
        """Returns a reader of what is kept, then of what comes."""
        return _Reader(self, run_id, after)

    async def kept(self, run_id: str) -> Kept | None:
        """Looks into the run's log."""
        log = self._logs.get(run_id)
        if log is None:
            return self._emptied.get(run_id)
        return Kept(max(log.base, log.dropped), log.last, log.over) if log.last else None

    def close(self) -> None:
        """Ends every subscription with an error."""
        self._closed = True
        for log in self._logs.values():
            log.wake()

    def enter(self, run_id: str) -> _Log:
        """Returns the run's log to one more reader."""
        log = self._log(run_id)
        log.readers += 1
        return log

    def leave(self, run_id: str, log: _Log) -> None:
        """Is told that a reader has gone."""
        log.readers -= 1
        self._leave(run_id, log)

    @property
    def closed(self) -> bool:
        """Whether readers wait in vain."""
        return self._closed

    def _log(self, run_id: str) -> _Log:
        log = self._logs.get(run_id)
        if log is None:
            last, _, over = self._emptied.pop(run_id, _NOTHING)
            log = self._logs[run_id] = _Log(last, base=last, dropped=last, over=over)
        return log

    def _forget(self) -> None:
        """Drops what is too old or too much. A log is looked at anew only once it has changed."""
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
        """Lets go of a log that has neither events nor readers: a number is left of it."""
        if log.events or log.readers or self._logs.get(run_id) is not log:
            return
        del self._logs[run_id]
        if log.last:
            self._emptied[run_id] = Kept(log.last, log.last, log.over)
            if len(self._emptied) > MOST_EMPTIED:
                self._emptied.popitem(last=False)


class _Reader:
    """A reader of one log, which it enters when it first takes something."""

    def __init__(self, bus: InProcessBus, run_id: str, after: int) -> None:
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
            # Who reads a long log without a pause is to let others in.
            await asyncio.sleep(0)
        if events := self._next(self._log):
            return events
        await self._log.wait(seconds)
        return self._next(self._log)

    def _next(self, log: _Log) -> list[Event]:
        if self._after < log.dropped:
            message = f"Events of {self._run_id} after {self._after} are gone."
            raise ApiError(Kind.events_gone, message)
        events = log.since(self._after, PORTION)
        if events:
            self._after = events[-1].number
        elif self._bus.closed:
            # Not before: a reader that lags is to hear the end of its run all the same.
            raise ApiError(Kind.unavailable, "The server is shutting down.")
        self._behind = len(events) == PORTION
        return events

    async def aclose(self) -> None:
        """Leaves the log."""
        if self._log is not None:
            self._bus.leave(self._run_id, self._log)
            self._log = None
