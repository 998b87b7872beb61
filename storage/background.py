"""Background tasks: they run to their end, also when the caller that started them is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class BackgroundTasks:
    """Tasks that were started and have not ended."""

    def __init__(self, *expected: type[Exception]) -> None:
        """`expected` errors are no defects: they are not logged when nobody waits for the task."""
        self._expected = expected
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task, which is not lost if nobody keeps it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def join(self, task: asyncio.Task[T]) -> T:
        """Returns what the task returns; if the caller is cancelled, the task is detached."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.detach(task)
            raise
        finally:
            # Its error, through the traceback, would keep this frame, and be kept by it.
            del task

    def detach(self, task: asyncio.Task[Any]) -> None:
        """Lets the task go on without anybody waiting for it: unexpected errors are logged."""
        task.add_done_callback(self._log_defect)

    async def join_all(self) -> None:
        """Waits until all tasks that were started so far have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _log_defect(self, task: asyncio.Task[Any]) -> None:
        log_defect(None if task.cancelled() else task.exception(), *self._expected)


def log_defect(error: BaseException | None, *expected: type[Exception]) -> None:
    """Logs why work failed that nobody waits for, unless the error is an expected one."""
    if error is not None and not isinstance(error, expected):
        log.error("background task failed", exc_info=error)
