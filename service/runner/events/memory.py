"""The event bus of a single server, in its memory: a log for each run."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from service.errors import BusClosed, EventsGone
from service.runner.events.bus import EPOCH_NUMBERS, PORTION, Kept, Stop
from service.runner.events.log import Log
from service.runner.events.portions import Portion
from service.types.events import Event

MAX_EMPTIED = 2**16
"""Runs of which the last number is remembered though none of their events is kept."""


_NOTHING = Kept(0, 0, over=False)


class MemoryBus:
    """An EventBus whose logs are lost with its process; they are bounded in bytes and in time."""

    def __init__(self, *, keep_seconds: float = 600.0, max_bytes: int = 64 * 2**20) -> None:
        """Keeps a run's log for `keep_seconds` after its last event, all in `max_bytes`."""
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._size = 0
        self._closed = False
        self._receive_stop: list[Callable[[str, Stop], None]] = []
        self._logs: dict[str, Log] = {}
        """All that have events or readers."""
        self._filled: OrderedDict[str, Log] = OrderedDict()
        """Those that have events. The one that was written to last stands last."""
        self._emptied: OrderedDict[str, Kept] = OrderedDict()
        """What is remembered of runs that have neither: numbers must not be given twice."""

    async def open(self) -> None:
        """Does nothing."""

    async def publish(self, run_id: str, epoch: int, *events: Event) -> int:
        """Numbers and keeps the events, and wakes who follows the run."""
        first = self.next_number(run_id, epoch)
        log = self._log(run_id)
        if log.last != first - 1:
            log.last = log.base = first - 1
        for number, event in enumerate(events, first):
            event.number = number
            self._size += log.append(event)
        if events:
            self._written(run_id, log)
        self._forget()
        self._leave(run_id, log)
        return first

    def mirror(self, run_id: str, portions: Sequence[Portion], *, anew: bool = False) -> None:
        """Keeps what another bus has numbered, unless it has that already, and wakes readers.

        With `anew`, the portions are all that there is, and come instead of what is kept.
        """
        log = self._log(run_id)
        if (anew or not log.events) and portions[-1].last >= log.last:
            self._size += log.clear()
            log.begin_after(portions[0].after)
        last = log.last
        self._size += sum(log.append_all(portion) for portion in portions)
        if log.last != last:
            self._written(run_id, log)
        self._forget()
        self._leave(run_id, log)

    def above(self, run_id: str, number: int) -> tuple[list[Event], bool]:
        """Returns the kept events of a run above this number, and whether none has been dropped."""
        log = self._logs.get(run_id)
        if log is None:
            return [], True
        return log.since(number, len(log.events)), number >= log.dropped

    def next_number(self, run_id: str, epoch: int) -> int:
        """Returns the number that the next event gets if it is published in this epoch."""
        log = self._logs.get(run_id)
        if log is not None and (log.events or log.base != log.last):
            return log.last + 1
        last = self._emptied.get(run_id, _NOTHING).last if log is None else log.last
        return max(last, epoch * EPOCH_NUMBERS) + 1

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
        return self.bounds(run_id)

    def bounds(self, run_id: str) -> Kept | None:
        """Returns the same at once."""
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

    def enter(self, run_id: str) -> Log:
        """Adds a reader to the run's log, and returns that."""
        log = self._log(run_id)
        log.readers += 1
        return log

    def leave(self, run_id: str, log: Log) -> None:
        """Removes a reader from the run's log."""
        log.readers -= 1
        self._leave(run_id, log)

    @property
    def closed(self) -> bool:
        """Whether there will be no more events."""
        return self._closed

    def _log(self, run_id: str) -> Log:
        log = self._logs.get(run_id)
        if log is None:
            last, _, over = self._emptied.pop(run_id, _NOTHING)
            log = self._logs[run_id] = Log(last, base=last, dropped=last, over=over)
        return log

    def _written(self, run_id: str, log: Log) -> None:
        self._filled[run_id] = log
        self._filled.move_to_end(run_id)
        log.wake()

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

    def _empty(self, run_id: str, log: Log) -> None:
        del self._filled[run_id]
        self._leave(run_id, log)

    def _leave(self, run_id: str, log: Log) -> None:
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
        self._log: Log | None = None
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

    def _next(self, log: Log) -> list[Event]:
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
