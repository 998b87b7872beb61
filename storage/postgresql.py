"""PostgreSQL: transactions in a bounded set of threads, each with a connection of its own.

A thread that waits for the database cannot be cancelled: the driver and the server have deadlines.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg.types.json import set_json_loads
from sqlalchemy.engine import URL

from storage.errors import StorageError, Unreachable
from storage.outage import translate
from storage.transaction import Transaction
from storage.unfinished import Unfinished

CONNECT_SECONDS = 10
SILENCE_SECONDS = 20
"""How long a connection may be silent while something is under way, before it is given up."""

STATEMENT_SECONDS = 120
LOCK_SECONDS = 60
WAIT_SECONDS = 60.0
"""How long a transaction waits for a connection."""

ENGINE_CONNECTIONS = 4
"""Connections that only the run engine uses: no number of calls keeps a lease from renewal."""

T = TypeVar("T")
Work = Callable[[Transaction], T]

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = "BEGIN"


class _Pool:
    """Threads with a connection each."""

    def __init__(self, url: str, size: int, name: str) -> None:
        self._url = url
        self._free = asyncio.Semaphore(size)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: set[psycopg.Connection[Any]] = set()

    async def run(self, begin: str, work: Work[T], project: str | None) -> T:
        """Executes a transaction. Not to be cancelled: a thread goes on all the same."""
        await self._enter()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._execute, begin, work, project)
        try:
            return await future
        finally:
            self._free.release()

    async def _enter(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise Unreachable("every connection to the database is in use") from None

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._open:
            connection.close()

    def _execute(self, begin: str, work: Work[T], project: str | None) -> T:
        try:
            connection, cursor = self._begun(begin)
            try:
                with cursor:
                    result = work(Transaction(cursor, PostgreSQL.name, project))
                    cursor.execute("COMMIT")
                    return result
            except BaseException:
                self._roll_back(connection)
                raise
        except psycopg.Error as error:
            raise translate(error) from error

    def _begun(self, begin: str) -> tuple[psycopg.Connection[Any], psycopg.Cursor[Any]]:
        """Returns a connection and a cursor on which a transaction has begun."""
        connection: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is not None:
            try:
                return connection, connection.cursor().execute(begin)
            except psycopg.Error:
                # It was lost while it was idle, as when the server was restarted.
                self._drop(connection)
        connection = self._connect()
        return connection, connection.cursor().execute(begin)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            prepare_threshold=2,
            connect_timeout=CONNECT_SECONDS,
            tcp_user_timeout=SILENCE_SECONDS * 1000,
            keepalives_idle=SILENCE_SECONDS,
            options=f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s",
        )
        set_json_loads(orjson.loads, connection)
        self._local.connection = connection
        with self._lock:
            self._open.add(connection)
        return connection

    def _roll_back(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.rollback()
        except psycopg.Error:
            self._drop(connection)

    def _drop(self, connection: psycopg.Connection[Any]) -> None:
        self._local.connection = None
        with self._lock:
            self._open.discard(connection)
        connection.close()


class PostgreSQL:
    """One PostgreSQL database."""

    name = "postgresql"

    def __init__(self, url: URL, pool_size: int) -> None:
        """Connects to nothing yet. `pool_size` is the number of connections for calls, at most."""
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._size = pool_size
        self._tasks = Unfinished(StorageError)
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    @functools.cached_property
    def _calls(self) -> _Pool:
        return _Pool(self._url, self._size, "postgresql-calls")

    @functools.cached_property
    def _engine(self) -> _Pool:
        return _Pool(self._url, ENGINE_CONNECTIONS, "postgresql-engine")

    async def write(self, work: Work[T], project: str | None, thread: str | None = None) -> T:
        """Returns what `work` returns, once it is committed.

        Of the transactions that write to one chat `thread`, one is in the database and the others
        wait here, where they hold no connection. Raises Unreachable, and what `work` raises; an
        Unreachable at the end may have been committed all the same.
        """
        return await self._tasks.finish(self._tasks.begin(self._write(work, project, thread)))

    async def _write(self, work: Work[T], project: str | None, thread: str | None) -> T:
        pool = self._engine if project is None else self._calls
        if thread is None:
            return await pool.run(_WRITE, work, project)
        async with self._turn(thread):
            return await pool.run(_WRITE, work, project)

    async def read(self, work: Work[T], project: str | None) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement."""
        return await self._tasks.finish(self._tasks.begin(self._calls.run(_READ, work, project)))

    get = read

    async def close(self) -> None:
        """Closes every connection, once all that was begun has ended."""
        await self._tasks.settled()
        for name in ("_calls", "_engine"):
            if (pool := self.__dict__.pop(name, None)) is not None:
                await pool.close()

    @contextlib.asynccontextmanager
    async def _turn(self, thread: str) -> AsyncIterator[None]:
        lock, users = self._turns.get(thread) or (asyncio.Lock(), 0)
        self._turns[thread] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns[thread]
            if users == 1:
                del self._turns[thread]
            else:
                self._turns[thread] = lock, users - 1
