"""The event bus: what runs publish, numbered and kept, for whoever follows them."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple, Protocol

from assistants.v1 import events_pb2

from service.errors import ApiError, Kind
from service.runner.events import ends_run

RunEvent = events_pb2.RunEvent

PORTION = 64
"""Events that a reader takes from a log at once: what a slow one holds takes memory."""


class Kept(NamedTuple):
    """The events of a run that are kept: those numbered above `after`."""

    after: int
    events: Sequence[RunEvent]
    over: bool
    """Whether the run's end has been told: none will follow."""

    @property
    def last(self) -> int:
        """The number of the run's last event."""
        return self.events[-1].sequence_number if self.events else self.after


class EventBus(Protocol):
    """Numbers each run's events, strictly increasing, and keeps them for a while."""

    async def publish(self, run_id: str, attempt: int, *events: RunEvent) -> int:
        """Sets the events' numbers, keeps them, and returns the first number.

        Never waits for readers. `attempt` is the run's: numbers jump with it where the bus has lost
        count, so that they increase over a restart too.
        """

    def subscribe(self, run_id: str, after: int) -> AsyncGenerator[RunEvent, None]:
        """Yields the run's events numbered above `after`: those kept, then new ones, without end.

        They are the reader's own. Raises ApiError: `events_gone` when some of them are not kept any
        more, `unavailable` when the bus closes.
        """

    async def kept(self, run_id: str) -> Kept | None:
        """Returns the events of the run that are kept, or None if it knows of none."""


@dataclass(slots=True)
class _Log:
    """One run's events, and who waits for more of them."""

    last: int
    events: deque[bytes] = field(default_factory=deque)
    """Serialized: as messages they would take twenty times the memory."""
    size: int = 0
    base: int = 0
    """The number before its first event: the bus knows nothing of events up to it."""
    dropped: int = 0
    over: bool = False
    touched: float = field(default_factory=time.monotonic)
    readers: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, event: RunEvent) -> int:
        data = event.SerializeToString()
        self.events.append(data)
        self.last = event.sequence_number
        self.over = self.over or ends_run(event)
        self.touched = time.monotonic()
        return self._resize(len(data))

    def since(self, after: int, most: int | None = None) -> list[RunEvent]:
        """Returns the kept events numbered above `after`, `most` of them if given.

        The numbers of one log have no gaps.
        """
        # From the end, where readers are: they come for each event of what may be a long log.
        count = min(max(self.last - after, 0), len(self.events))
        skipped = 0 if most is None else max(count - most, 0)
        newest = list(islice(reversed(self.events), skipped, count))
        return [RunEvent.FromString(data) for data in reversed(newest)]

    def drop_first(self) -> int:
        data = self.events.popleft()
        self.dropped = self.last - len(self.events)
        return self._resize(-len(data))

    def _resize(self, change: int) -> int:
        self.size += change
        return change


class InProcessBus:
    """The bus of a single server: a log for each run, bounded in bytes and time."""

    def __init__(self, *, keep_seconds: float = 600.0, max_bytes: int = 64 * 2**20) -> None:
        """Keeps a run's log for `keep_seconds` after its last event, all in `max_bytes`."""
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._size = 0
        self._closed = False
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        """The log that was written to last stands last."""

    async def publish(self, run_id: str, attempt: int, *events: RunEvent) -> int:
        """Numbers and keeps the events, and wakes who follows the run."""
        log = self._logs.setdefault(run_id, _Log(last=0))
        if not log.last:
            log.last = log.base = attempt << 20
        first = log.last + 1
        for number, event in enumerate(events, first):
            event.sequence_number = number
            self._size += log.append(event)
        self._logs.move_to_end(run_id)
        self._forget()
        log.more.set()
        log.more = asyncio.Event()
        return first

    async def subscribe(self, run_id: str, after: int) -> AsyncGenerator[RunEvent, None]:
        """Yields what is kept, then what comes."""
        log = self._logs.setdefault(run_id, _Log(last=0))
        log.readers += 1
        try:
            while True:
                if after < log.dropped:
                    raise ApiError(Kind.events_gone, f"Events of {run_id} after {after} are gone.")
                more = log.more
                kept = log.since(after, PORTION)
                for event in kept:
                    after = event.sequence_number
                    yield event
                if not kept:
                    # Not before: a reader that lags is to hear the end of its run all the same.
                    if self._closed:
                        break
                    await more.wait()
        finally:
            log.readers -= 1
        raise ApiError(Kind.unavailable, "The server is shutting down.")

    async def kept(self, run_id: str) -> Kept | None:
        """Looks into the run's log."""
        log = self._logs.get(run_id)
        if log is None or not log.last:
            return None
        return Kept(max(log.base, log.dropped), log.since(0), log.over)

    def close(self) -> None:
        """Ends every subscription with an error."""
        self._closed = True
        for log in self._logs.values():
            log.more.set()

    def _forget(self) -> None:
        oldest = time.monotonic() - self._keep_seconds
        stale = takewhile(lambda item: item[1].touched < oldest, self._logs.items())
        for run_id, log in list(stale):
            if not log.readers:
                self._size -= log.size
                del self._logs[run_id]
        # Too many bytes: the run that was quiet for longest loses its oldest events first.
        for log in self._logs.values():
            while log.events and self._size > self._max_bytes:
                self._size += log.drop_first()
            if self._size <= self._max_bytes:
                break
