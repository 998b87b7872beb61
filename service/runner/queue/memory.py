"""The run queue of a single server, in its memory."""

import asyncio
from collections import OrderedDict, deque

from service.runner.queue.queue import QueueClosed
from storage.sessions import FIRST_SECONDS


class MemoryQueue:
    """A RunQueue that lives and dies with its process, as do those who take from it."""

    def __init__(self, server: str | None = None, *, takes: bool = True) -> None:
        """Starts empty, as the queue of `server`; keeps nothing unless that `takes` runs."""
        self._server = server
        self._takes = takes
        self._groups: OrderedDict[str, deque[str]] = OrderedDict()
        """The runs that wait; the group whose turn it is stands first."""
        self._known: set[str] = set()
        """Those, and the ones that are other servers' first, which cannot be reached."""
        self._closed = False
        self._changed = asyncio.Event()
        """Set as long as a run waits, and once the queue is closed."""

    async def open(self) -> None:
        """Does nothing."""

    async def put(self, run_id: str, epoch: int, group: str, *, server: str | None = None) -> None:
        """Adds a run, unless it waits already."""
        if not self._takes or run_id in self._known or self._closed:
            return
        self._known.add(run_id)
        if server in (None, self._server):
            self._add(run_id, group)
        else:
            asyncio.get_running_loop().call_later(FIRST_SECONDS, self._add, run_id, group)

    @property
    def empty(self) -> bool:
        """Whether no run waits."""
        return not self._groups

    async def ready(self) -> None:
        """Waits until a run waits."""
        while self.empty or self._closed:
            if self._closed:
                raise QueueClosed
            await self._changed.wait()

    async def take(self) -> str | None:
        """Takes the next run, if one waits."""
        if self._closed:
            raise QueueClosed
        if self.empty:
            return None
        group, waiting = self._groups.popitem(last=False)
        run_id = waiting.popleft()
        if waiting:
            self._groups[group] = waiting
        elif self.empty:
            self._changed.clear()
        # It may become queued again while it is executed.
        self._known.discard(run_id)
        return run_id

    async def acknowledge(self, run_id: str) -> None:
        """Does nothing: nobody is left to take a run when its taker is gone."""

    async def close(self) -> None:
        """Forgets what waits, and wakes those who take."""
        self._closed = True
        self._groups.clear()
        self._known.clear()
        self._changed.set()

    def _add(self, run_id: str, group: str) -> None:
        if not self._closed:
            self._groups.setdefault(group, deque()).append(run_id)
            self._changed.set()
