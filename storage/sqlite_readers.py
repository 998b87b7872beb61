"""The threads that read a SQLite file.

One of them reads, and others what it does not come to soon: threads that read at the same time
take Python's lock from one another, and from the loop.
"""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from storage.sqlite_writer import Job, deliver
from storage.transaction import Transaction

PATIENCE_SECONDS = 0.05
"""How long a read waits for the first thread before another one is asked."""

T = TypeVar("T")
Execute = Callable[[Callable[[Transaction], Any], str | None], Any]


class Readers:
    """Threads that read."""

    def __init__(self, size: int, execute: Execute, end: Callable[[], None]) -> None:
        """Starts the first thread; there are `size` at most.

        `execute` reads, in any of them; `end` is called once all have ended.
        """
        self._execute = execute
        self._end = end
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._answers: dict[asyncio.AbstractEventLoop, _Answers] = {}
        self._more = ThreadPoolExecutor(size - 1, thread_name_prefix="sqlite-readers")
        self._first = threading.Thread(target=self._serve, name="sqlite-reader", daemon=True)
        self._first.start()

    async def read(self, work: Callable[[Transaction], T], project: str | None) -> T:
        """Returns what `work` returns, which one of the threads executes. Not after `close`."""
        loop = asyncio.get_running_loop()
        if loop not in self._answers:
            self._answers[loop] = _Answers(loop)
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(Job(work, project, False, future))
        late = loop.call_later(PATIENCE_SECONDS, self._help)
        try:
            return await future
        finally:
            late.cancel()

    def close(self) -> None:
        """Ends the threads, once they have read what was asked for. Blocks."""
        self._jobs.put(None)
        self._first.join()
        self._more.shutdown()
        self._end()

    def _help(self) -> None:
        # Once they are closed, all has been read.
        with contextlib.suppress(RuntimeError):
            self._more.submit(self._serve, wait=False)

    def _serve(self, *, wait: bool = True) -> None:
        """Reads what waits, and, with `wait`, what comes, until all is closed."""
        with contextlib.suppress(queue.Empty):
            while (job := self._jobs.get(block=wait)) is not None:
                if not job.future.cancelled():
                    self._read(job)
            # For the others.
            self._jobs.put(None)

    def _read(self, job: Job) -> None:
        result, problem = None, None
        try:
            result = self._execute(job.work, job.project)
        except BaseException as error:
            problem = error
        self._answers[job.future.get_loop()].put((job, result, problem))


class _Answers:
    """What is on its way to a loop, which takes all that has arrived at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[Any] = deque()
        self._called = False

    def put(self, result: Any) -> None:
        """Leaves a result, and calls the loop, unless it comes anyway."""
        self._arrived.append(result)
        if not self._called:
            self._called = True
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        # First of all: what arrives from now on may be missed below.
        self._called = False
        while self._arrived:
            deliver([self._arrived.popleft()])
