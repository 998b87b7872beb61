"""PostgreSQL: transactions in a bounded set of threads, over as many connections.

A thread that waits for the database cannot be cancelled: the driver and the server have deadlines.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_loads
from sqlalchemy.engine import URL

from storage.errors import StorageError, Unreachable
from storage.outage import translate
from storage.statements import DIALECTS
from storage.transaction import Transaction, perform
from storage.unfinished import Unfinished

DATABASE = "postgresql"

SILENCE_SECONDS = 20
"""How long a connection may be silent while something is under way, before it is given up."""

DEFAULTS = {
    "connect_timeout": 10,
    "tcp_user_timeout": SILENCE_SECONDS * 1000,
    "keepalives_idle": SILENCE_SECONDS,
}
"""Parameters of connections whose URL does not say otherwise."""

LIMITS = """
SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '60s' ELSE '120s' END, false)
FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout') AND source = 'default'
"""
"""How long statements take at most, unless the URL, the role or the database says otherwise."""

WAIT_SECONDS = 60.0
"""How long a transaction waits for a connection, and before it for its turn on its thread."""

ENGINE_CONNECTIONS = 4
"""Connections that only the run engine uses: no number of calls keeps a lease from renewal."""

T = TypeVar("T")
Work = Callable[[Transaction], T]

# Said, because a database may have another default: what is read behind a lock is as it is then.
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def parameters(url: URL) -> dict[str, Any]:
    """Returns the parameters of a connection that a URL names. ValueError for unknown ones."""
    # Not the URL itself: libpq does not read a + for a space, which is how SQLAlchemy writes it.
    _, given = DIALECTS[DATABASE].create_connect_args(url)
    try:
        make_conninfo(**given)
    except psycopg.Error as error:
        # Of one line; what it quotes is the parameter.
        raise ValueError(str(error).strip()) from error
    return {**DEFAULTS, **given}


class _Pool:
    """Threads that execute transactions, and as many connections at most."""

    def __init__(self, parameters: Mapping[str, Any], size: int, name: str) -> None:
        self._parameters = parameters
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._idle: list[psycopg.Connection[Any]] = []
        """Connections that no thread uses; the last one was in use last."""

    async def run(self, begin: str, work: Work[T], project: str | None) -> T:
        """Executes a transaction, which goes on also if the caller is cancelled."""
        future = self._threads.submit(self._execute, begin, work, project)
        answer = asyncio.wrap_future(future)
        await asyncio.wait([answer], timeout=WAIT_SECONDS)
        # Only what no thread has begun is cancelled.
        if future.cancel():
            raise Unreachable("every connection to the database is in use")
        return await answer

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._idle:
            connection.close()

    def _execute(self, begin: str, work: Work[T], project: str | None) -> T:
        try:
            connection = self._begun(begin)
            try:
                with connection.cursor() as cursor:
                    result = perform(work, Transaction(cursor, DATABASE, project))
                    _commit(cursor)
            except psycopg.Error:
                # Nobody knows what it is worth: it may have lost its prepared statements.
                connection.close()
                raise
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                if not connection.closed:
                    self._idle.append(connection)
            return result
        except psycopg.Error as error:
            raise translate(error) from error

    def _begun(self, begin: str) -> psycopg.Connection[Any]:
        """Returns a connection on which a transaction has begun."""
        try:
            return _begin(self._idle.pop(), begin)
        except IndexError:
            pass
        except psycopg.Error:
            pass  # It was lost while it was idle, as when the server was restarted.
        return _begin(_connect(self._parameters), begin)


def _connect(parameters: Mapping[str, Any]) -> psycopg.Connection[Any]:
    connection = psycopg.connect(autocommit=True, prepare_threshold=2, **parameters)
    set_json_loads(orjson.loads, connection)
    return _begin(connection, LIMITS)


def _begin(connection: psycopg.Connection[Any], statement: str) -> psycopg.Connection[Any]:
    """Returns the connection, once it has executed the statement; closes it if it fails."""
    try:
        connection.execute(statement.encode())
    except BaseException:
        connection.close()
        raise
    return connection


def _commit(cursor: psycopg.Cursor[Any]) -> None:
    cursor.execute("COMMIT")
    if cursor.statusmessage != "COMMIT":
        # The answer, without an error, where a statement has failed and the work went on.
        raise psycopg.errors.InFailedSqlTransaction("a statement of the transaction had failed")


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


class PostgreSQL:
    """One PostgreSQL database."""

    def __init__(self, url: URL, pool_size: int) -> None:
        """Connects to nothing yet. `pool_size` is the number of connections for calls, at most."""
        self._parameters = parameters(url)
        self._size = pool_size
        self._tasks = Unfinished(StorageError)
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    @functools.cached_property
    def _calls(self) -> _Pool:
        return _Pool(self._parameters, self._size, "postgresql-calls")

    @functools.cached_property
    def _engine(self) -> _Pool:
        return _Pool(self._parameters, ENGINE_CONNECTIONS, "postgresql-engine")

    async def write(self, work: Work[T], project: str | None, thread: str | None = None) -> T:
        """Returns what `work` returns, once it is committed.

        Of the transactions that write to one chat `thread`, one is in the database and the others
        wait here, where they hold no connection. Raises Unreachable, and what `work` raises; an
        Unreachable at the end may have been committed all the same.
        """
        pool = self._engine if project is None else self._calls
        turn = contextlib.nullcontext() if thread is None else self._turn(thread)
        return await self._tasks.finish(self._tasks.begin(_write(turn, pool, work, project)))

    async def read(self, work: Work[T], project: str | None) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement."""
        return await self._tasks.finish(self._tasks.begin(self._calls.run(_READ, work, project)))

    get = read

    async def close(self) -> None:
        """Closes every connection, once all that was begun has ended."""
        # Taken out first: whoever comes meanwhile has others.
        names = ("_calls", "_engine")
        pools = [pool for name in names if (pool := self.__dict__.pop(name, None)) is not None]
        await self._tasks.settled()
        for pool in pools:
            await pool.close()

    @contextlib.asynccontextmanager
    async def _turn(self, thread: str) -> AsyncIterator[None]:
        lock, users = self._turns.get(thread) or (asyncio.Lock(), 0)
        self._turns[thread] = lock, users + 1
        try:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await lock.acquire()
            except TimeoutError:
                raise Unreachable("others write to the thread for too long") from None
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._turns[thread]
            if users == 1:
                del self._turns[thread]
            else:
                self._turns[thread] = lock, users - 1


async def _write(
    turn: AbstractAsyncContextManager[None], pool: _Pool, work: Work[T], project: str | None
) -> T:
    async with turn:
        return await pool.run(_WRITE, work, project)
