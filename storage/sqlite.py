"""SQLite: one thread that writes, some that read, and single rows that are read at once.

The writer executes all transactions that wait as savepoints of one, so that one commit, and one
fsync, serves them all. Nobody is answered before it.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from storage.outage import is_away, report, translate
from storage.transaction import Transaction

BUSY_SECONDS = 60.0
"""How long a writer waits for another server's transaction on the file."""

GROUP_TRANSACTIONS = 128
"""Transactions that share one commit, at most."""

GROUP_SECONDS = 0.02
"""How long a group takes in more transactions."""

READERS = 4
"""Threads that read."""

T = TypeVar("T")
Work = Callable[[Transaction], T]


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    project: str | None
    alone: bool
    future: asyncio.Future[Any]


_Result = tuple[_Job, Any, BaseException | None]


class SQLite:
    """One database file."""

    name = "sqlite"

    def __init__(self, path: str) -> None:
        """Opens nothing yet."""
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._kept: _Job | None = None
        """A transaction that a group left to the next."""
        self._writer: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._local = threading.local()
        self._at_once: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    async def write(self, work: Work[T], project: str | None, *, alone: bool = False) -> T:
        """Returns what `work` returns, once it is committed; `alone` in a commit of its own.

        It is done also if its caller is cancelled. Raises Unreachable, and what `work` raises.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="sqlite-writer", daemon=True)
            self._writer.start()
        self._jobs.put(_Job(work, project, alone, future))
        return await future

    async def read(self, work: Work[T], project: str | None) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work, project)

    async def get(self, work: Work[T], project: str | None) -> T:
        """Returns what `work` returns, which reads single rows by their keys: without a thread."""
        if self._at_once is None:
            with _translated():
                # Whatever is busy is left to a thread, that can wait.
                self._at_once = self._keep(_open(self._path, busy_seconds=0))
        try:
            return _in_snapshot(self._at_once, work, project)
        except sqlite3.OperationalError as error:
            if not is_away(error):
                raise
        return await self.read(work, project)

    async def close(self) -> None:
        """Closes every connection, once all that was begun has ended."""
        if self._writer is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        await asyncio.to_thread(self._readers.shutdown)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._local, self._at_once = threading.local(), None
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _keep(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Returns the connection, which is closed with the database."""
        with self._lock:
            self._open.append(connection)
        return connection

    def _read(self, work: Work[T], project: str | None) -> T:
        with _translated():
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._keep(connect(self._path))
            return _in_snapshot(connection, work, project)

    def _write(self) -> None:
        """Serves the queue until it is closed."""
        connection: sqlite3.Connection | None = None
        while (job := self._kept or self._jobs.get()) is not None:
            self._kept = None
            try:
                if connection is None:
                    connection = self._keep(connect(self._path))
                connection.execute("BEGIN IMMEDIATE")
            except BaseException as error:
                # Whoever came meanwhile waits for the same: longer would be no better.
                self._answer([(each, None, error) for each in [job, *self._waiting()]])
                continue
            self._answer(self._group(connection, job))

    def _waiting(self) -> list[_Job]:
        jobs = []
        with contextlib.suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                jobs.append(job)
            self._jobs.put(None)
        return jobs

    def _group(self, connection: sqlite3.Connection, first: _Job) -> list[_Result]:
        """Executes transactions within the one that has begun, and commits it."""
        results: list[_Result] = []
        try:
            for job in self._members(first):
                results.append((job, *_in_savepoint(connection, job)))
                if not connection.in_transaction:
                    # A full disk, or an error of the disk, has rolled back all of it.
                    raise results[-1][2] or sqlite3.OperationalError("the transaction has gone")
            connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            return [(job, None, error) for job, _, _ in results]
        return results

    def _members(self, first: _Job) -> Iterator[_Job]:
        deadline = time.monotonic() + GROUP_SECONDS
        yield first
        for _ in range(0 if first.alone else GROUP_TRANSACTIONS - 1):
            if time.monotonic() > deadline:
                return
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None:
                self._jobs.put(None)
                return
            if job.alone:
                self._kept = job
                return
            yield job

    @staticmethod
    def _answer(results: list[_Result]) -> None:
        loops = {job.future.get_loop() for job, _, _ in results}
        for loop in loops:
            own = [result for result in results if result[0].future.get_loop() is loop]
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, own)


def connect(path: str) -> sqlite3.Connection:
    """Returns a connection whose commits reach the disk, and which begins nothing by itself."""
    connection = _open(path, BUSY_SECONDS)
    try:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # Of several that turn a new file to WAL, SQLite refuses all but one at once.
                if not is_away(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        # What was answered is on the disk, also when the power goes: one fsync for each commit.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: str, busy_seconds: float) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from error


def _in_snapshot(connection: sqlite3.Connection, work: Work[T], project: str | None) -> T:
    cursor = connection.cursor()
    connection.execute("BEGIN")
    try:
        return work(Transaction(cursor, SQLite.name, project))
    finally:
        cursor.close()
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _in_savepoint(connection: sqlite3.Connection, job: _Job) -> tuple[Any, BaseException | None]:
    """Returns what a transaction gives, or the error for which nothing of it remains."""
    cursor = connection.cursor()
    connection.execute("SAVEPOINT one")
    result, problem = None, None
    try:
        result = job.work(Transaction(cursor, SQLite.name, job.project))
    except BaseException as error:
        problem = error
    finally:
        # A cursor that is left would keep the file locked.
        cursor.close()
    if connection.in_transaction:
        if problem is not None:
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
    return result, problem


def _deliver(results: list[_Result]) -> None:
    for job, result, error in results:
        if job.future.cancelled():
            report(error)
        elif error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(_fresh(error))


def _fresh(error: BaseException) -> BaseException:
    """Returns the error that one caller gets: of a group's, each gets one of its own."""
    if isinstance(error, sqlite3.Error):
        translated = translate(error)
        if translated is error:
            translated = type(error)(*error.args)
            translated.__cause__ = error
        return translated
    return error
