"""The queue between whoever has a run to execute and the workers."""

import asyncio
from typing import Protocol


class RunQueue(Protocol):
    """Ids of runs to execute, oldest first, each delivered at least once."""

    async def put(self, run_id: str) -> None:
        """Adds a run."""

    async def take(self) -> str:
        """Waits for a run and returns its id. It is delivered again unless acknowledged."""

    async def acknowledge(self, run_id: str) -> None:
        """Says that a run that was taken needs no other delivery."""


class InProcessQueue:
    """The queue of a single server. What it loses in a crash, the reconciler puts back."""

    def __init__(self) -> None:
        """Starts empty."""
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._known: set[str] = set()

    async def put(self, run_id: str) -> None:
        """Adds a run, unless it waits already."""
        if run_id not in self._known:
            self._known.add(run_id)
            self._waiting.put_nowait(run_id)

    async def take(self) -> str:
        """Waits for a run and returns its id."""
        run_id = await self._waiting.get()
        # From here on a put is news: the run may become queued again while it is worked on.
        self._known.discard(run_id)
        return run_id

    async def acknowledge(self, run_id: str) -> None:
        """Does nothing: a taken run is lost only with the process, and so is this queue."""
