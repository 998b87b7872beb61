"""SQLite: one thread that writes, some that read, and what is short is read at once."""

import asyncio
import functools
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from storage.disconnects import is_away, translate_disconnects
from storage.sqlite_writer import DATABASE, Job, Writer
from storage.transaction import Transaction, perform

BUSY_SECONDS = 60.0
"""How long a writer waits for another server's transaction on the file."""

READERS = 4
"""Threads that read."""

AT_ONCE = 2**18
"""Bytes of a value, or a row, that are read on the event loop; a thread reads what is longer."""

T = TypeVar("T")
Work = Callable[[Transaction], T]


class SQLite:
    """One database file."""

    def __init__(self, path: str) -> None:
        """Opens the file at the first transaction."""
        self._path = path

    @functools.cached_property
    def _writer(self) -> Writer:
        return Writer(lambda: connect(self._path))

    @functools.cached_property
    def _readers(self) -> "_Readers":
        return _Readers(READERS, lambda: _reading(connect(self._path)))

    @functools.cached_property
    def _at_once(self) -> "_Connections":
        return _Connections(lambda: _at_once(self._path))

    async def write(self, work: Work[T], project: str | None, *, alone: bool = False) -> T:
        """Returns what `work` returns, once it is committed; `alone` in a commit of its own.

        It is done also if its caller is cancelled. Raises Unreachable, and what `work` raises.
        """
        return await self._written(work, project, alone)

    def _written(self, work: Work[T], project: str | None, alone: bool) -> asyncio.Future[T]:
        # Apart from who awaits it: a frame that names what fails is kept by its own traceback.
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.put(Job(work, project, alone, future))
        return future

    async def read(self, work: Work[T], project: str | None) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement."""
        return await self._readers.read(work, project)

    async def get(self, work: Work[T], project: str | None, *, together: bool = True) -> T:
        """Returns what `work` returns, which reads rows by their keys, or a page by its index.

        What is short is read here and now: to ask a thread takes longer. What is busy or long is
        left to one, which can wait.
        """
        try:
            return _in_snapshot(self._at_once.own(), work, project, brief=True)
        except sqlite3.DataError:
            pass  # It is long.
        except sqlite3.OperationalError as error:
            if not is_away(error):
                raise
        return await self.read(work, project)

    async def close(self) -> None:
        """Closes every connection, once all that was begun has ended."""
        # Taken out first: whoever comes meanwhile opens anew.
        for name in ("_writer", "_readers", "_at_once"):
            if (part := self.__dict__.pop(name, None)) is not None:
                await asyncio.to_thread(part.close)


class _Connections:
    """A connection for each thread that asks for one."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    def own(self) -> sqlite3.Connection:
        """Returns the connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            with self._lock:
                self._open.append(connection)
        return connection

    def close(self) -> None:
        """Closes them all."""
        for connection in self._open:
            connection.close()


class _Readers:
    """Threads that read."""

    def __init__(self, size: int, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connections = _Connections(connect)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="sqlite-reader")

    async def read(self, work: Work[T], project: str | None) -> T:
        """Returns what `work` returns, which one of the threads executes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, work, project)

    def close(self) -> None:
        """Ends the threads, once they have read what was asked for. Blocks."""
        self._threads.shutdown()
        self._connections.close()

    def _read(self, work: Work[T], project: str | None) -> T:
        try:
            return _in_snapshot(self._connections.own(), work, project)
        except sqlite3.Error as error:
            raise translate_disconnects(error) from error


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


def _reading(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Returns the connection, on which nothing can be written any more."""
    connection.execute("PRAGMA query_only = ON")
    return connection


def _at_once(path: str) -> sqlite3.Connection:
    """Returns a connection for the event loop: it waits for nobody, and refuses what is long."""
    connection = _reading(_open(path, busy_seconds=0))
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, AT_ONCE)
    return connection


def _in_snapshot(
    connection: sqlite3.Connection, work: Work[T], project: str | None, *, brief: bool = False
) -> T:
    cursor = connection.cursor()
    connection.execute("BEGIN")
    try:
        return perform(work, Transaction(cursor, DATABASE, project, brief=brief))
    finally:
        cursor.close()
        if connection.in_transaction:
            connection.execute("ROLLBACK")
