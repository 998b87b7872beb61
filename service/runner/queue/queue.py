"""The queue between whoever has a run to execute and the workers."""

import asyncio
from collections import OrderedDict, deque
from typing import Protocol


class RunQueue(Protocol):
    """Ids of runs to execute, each delivered at least once.

    Those of one group, which is their assistant, come oldest first. Groups take turns, so that one
    with many runs does not keep the others waiting.
    """

    async def put(self, run_id: str, group: str) -> None:
        """Adds a run."""

    @property
    def empty(self) -> bool:
        """Whether no run waits, as far as this server knows."""

    async def ready(self) -> None:
        """Waits until there is a run to take."""

    async def take(self) -> str:
        """Waits for a run and returns its id. It is delivered again unless acknowledged."""

    async def acknowledge(self, run_id: str) -> None:
        """Says that a run that was taken needs no other delivery."""


class InProcessQueue:
    """The queue of a single server. What it loses in a crash, the reconciler puts back."""

    def __init__(self) -> None:
        """Starts empty."""
        self._groups: OrderedDict[str, deque[str]] = OrderedDict()
        """What waits; the group whose turn it is stands first."""
        self._known: set[str] = set()
        self._filled = asyncio.Event()
        """Set as long as a run waits."""

    async def put(self, run_id: str, group: str) -> None:
        """Adds a run, unless it waits already."""
        if run_id not in self._known:
            self._known.add(run_id)
            self._groups.setdefault(group, deque()).append(run_id)
            self._filled.set()

    @property
    def empty(self) -> bool:
        """Whether no run waits."""
        return not self._groups

    async def ready(self) -> None:
        """Waits until a run waits."""
        while self.empty:
            await self._filled.wait()

    async def take(self) -> str:
        """Waits for a run and returns its id."""
        await self.ready()
        group, waiting = self._groups.popitem(last=False)
        run_id = waiting.popleft()
        if waiting:
            self._groups[group] = waiting
        elif self.empty:
            self._filled.clear()
        # From here on a put is news: the run may become queued again while it is worked on.
        self._known.discard(run_id)
        return run_id

    async def acknowledge(self, run_id: str) -> None:
        """Does nothing: a taken run is lost only with the process, and so is this queue."""
