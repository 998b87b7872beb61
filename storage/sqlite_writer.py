"""The thread that writes to a SQLite file.

It executes all transactions that wait as savepoints of one, so that one commit, and one fsync,
serves them all. Nobody is answered before it.
"""

import asyncio
import contextlib
import copy
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from storage.background import log_defect
from storage.disconnects import translate_disconnects
from storage.errors import StorageError
from storage.transaction import Transaction, perform

DATABASE = "sqlite"

GROUP_TRANSACTIONS = 128
"""Transactions that share one commit, at most."""

GROUP_SECONDS = 0.02
"""How long a group takes in more transactions."""


@dataclass(frozen=True, slots=True)
class Job:
    """A transaction that waits for the writer, and the future of its result."""

    work: Callable[[Transaction], Any]
    project: str | None
    alone: bool
    """Whether it has a commit of its own."""
    future: asyncio.Future[Any]


_Result = tuple[Job, Any, BaseException | None]


class Writer:
    """A thread with a connection of its own."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Starts the thread, which connects when there is something to write."""
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._kept: Job | None = None
        """A transaction that a group left to the next."""
        self._thread = threading.Thread(target=self._serve, name="sqlite-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queues a transaction. It must not be called after `close`."""
        self._jobs.put(job)

    def close(self) -> None:
        """Executes what is queued, and closes the connection. Blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (job := self._kept or self._jobs.get()) is not None:
            self._kept = None
            try:
                connection = self._begun()
            except BaseException as error:
                self._drop()
                # Whoever came meanwhile waits for the same: longer would be no better.
                _answer(_failed([job, *self._waiting()], error))
            else:
                _answer(self._group(connection, job))
        self._drop()

    def _begun(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def _drop(self) -> None:
        """Closes the connection, which rolls back what is open on it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _waiting(self) -> list[Job]:
        jobs = []
        with contextlib.suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                jobs.append(job)
            self._jobs.put(None)
        return jobs

    def _group(self, connection: sqlite3.Connection, first: Job) -> list[_Result]:
        """Executes transactions within the one that has begun, and commits it."""
        taken: list[Job] = []
        results: list[_Result] = []
        try:
            for job in self._members(first):
                taken.append(job)
                result, problem = _in_savepoint(connection, job)
                results.append((job, result, problem))
                if not connection.in_transaction:
                    # A full disk, or an error of the disk, has rolled back all of it.
                    gone = sqlite3.OperationalError("the transaction has gone")
                    raise problem if isinstance(problem, sqlite3.Error) else gone
            connection.execute("COMMIT")
        except BaseException as error:
            self._drop()
            return _failed(taken, error)
        return results

    def _members(self, first: Job) -> Iterator[Job]:
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


def _in_savepoint(connection: sqlite3.Connection, job: Job) -> tuple[Any, BaseException | None]:
    """Returns what a transaction gives, or the error for which nothing of it remains."""
    cursor = connection.cursor()
    connection.execute("SAVEPOINT one")
    result, problem = None, None
    try:
        result = perform(job.work, Transaction(cursor, DATABASE, job.project))
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


def _failed(jobs: Iterable[Job], error: BaseException) -> list[_Result]:
    """Returns the results of transactions that failed together, each with an error of its own."""
    return [(job, None, copy.copy(error).with_traceback(error.__traceback__)) for job in jobs]


def _answer(results: list[_Result]) -> None:
    for loop in {job.future.get_loop() for job, _, _ in results}:
        own = [result for result in results if result[0].future.get_loop() is loop]
        # In a loop that is closed, nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_deliver, own)


def _deliver(results: list[_Result]) -> None:
    for job, result, error in results:
        if job.future.cancelled():
            log_defect(error and translate_disconnects(error), StorageError)
        elif error is None:
            job.future.set_result(result)
        else:
            if isinstance(error, StorageError):
                # Expected. The frames hold it, as it them, and with them all that was to be
                # written: that is not to wait for the garbage collector.
                error = error.with_traceback(None)
            job.future.set_exception(translate_disconnects(error))
