"""Work that goes on to its end, though who began it may go away meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class BackgroundTasks:
    """What was begun and has not ended."""

    def __init__(self, *refusals: type[Exception]) -> None:
        """`refusals` are raised on purpose: no defects, where nobody hears of them any more."""
        self._refusals = refusals
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begins the work, which is not lost if nobody keeps the task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, task: asyncio.Task[T]) -> T:
        """Returns what the task returns; it goes on also if its caller is cancelled."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.let_go(task)
            raise

    def let_go(self, task: asyncio.Task[Any]) -> None:
        """Says that nobody waits for the task: if it fails by a defect, the log tells."""
        task.add_done_callback(self._log_defect)

    async def settled(self) -> None:
        """Waits until all that has been begun so far has ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _log_defect(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, self._refusals):
            log.error("what was begun has failed", exc_info=error)
