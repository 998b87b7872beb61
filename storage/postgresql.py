"""PostgreSQL: transactions in a bounded set of threads, over as many connections.

A thread that waits for the database cannot be cancelled: the driver and the server have deadlines.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

from storage.background import BackgroundTasks
from storage.disconnects import translate_disconnects
from storage.errors import GONE, StorageError, Unreachable
from storage.postgresql_connection import Connection, Cursor
from storage.pulse import Pulse
from storage.statements import DIALECTS
from storage.transaction import Transaction, perform

DATABASE = "postgresql"

SILENCE_SECONDS = 20
"""How long a server may be silent when it should have answered, before its connection is given up.

What begins or gives up a transaction takes no time; every other statement, as long as it may take.
"""

DEFAULTS = {
    "connect_timeout": 10,
    "tcp_user_timeout": SILENCE_SECONDS * 1000,
    "keepalives_idle": SILENCE_SECONDS,
}
"""Parameters of connections whose URL does not say otherwise."""

LIMITS = """
SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
    ('lock_timeout', '60s'),
    ('statement_timeout', '120s'),
    ('idle_in_transaction_session_timeout', '8s')
) AS limits (limited, value) ON name = limited WHERE source = 'default'
"""
"""How long statements take at most, unless the URL, the role or the database says otherwise.

And how long a transaction waits for its next one: a process that stands still, or is cut off, keeps
no thread locked.
"""

LIMIT = "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"
"""How long statements take at most after that, in milliseconds; 0 is no limit."""

WAIT_SECONDS = 60.0
"""How long a transaction waits for a connection, and before it for its turn on its thread."""

RENEWAL_CONNECTIONS = 2
"""Connections that only renew leases: nobody who waits for a thread keeps them from it."""

POLL_SECONDS = 0.2
"""How often a wait for an answer looks at the clock."""

T = TypeVar("T")
Work = Callable[[Transaction], T]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of transaction."""

    begin: bytes = b""
    """What begins it; where nothing does, each statement stands alone and only reads."""
    short: bool = False
    """Whether its statements are answered as fast as the beginning of a transaction."""


# Levels are set, because a database may have another default: what is read behind a lock is as it
# is then.
_WRITE = _Kind(b"BEGIN ISOLATION LEVEL READ COMMITTED")
_READ = _Kind(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_READ_AT_ONCE = _Kind()
_GET = _Kind(short=True)


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


class _Connecting(psycopg.Connection[Any]):
    """A connection of the driver's that gives up when the server stays silent while it connects."""

    def wait(
        self, gen: PQGen[T], interval: float = POLL_SECONDS, timeout: float | None = None
    ) -> T:
        """Returns what comes of a statement. Raises OperationalError if there is no answer."""
        return super().wait(gen, interval, SILENCE_SECONDS if timeout is None else timeout)


class _Job:
    """A transaction that a thread executes."""

    connection: Connection | None = None
    """The connection that it has, if it has one."""
    given_up: bool = False
    """Whether its caller was told that it failed, so that nothing may be done any more."""

    def give_up(self) -> None:
        """Has it fail wherever it is; while it connects, once it has."""
        self.given_up = True
        if self.connection is not None:
            self.connection.give_up()


class _Pool:
    """Threads that execute transactions, and as many connections at most.

    With a `pulse`, transactions fail as soon as the database has gone, unless they are `patient`.
    """

    def __init__(
        self, parameters: Mapping[str, Any], size: int, name: str, pulse: Pulse | None = None
    ) -> None:
        self._parameters = parameters
        self._pulse = pulse
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._idle: list[Connection] = []
        """Connections that no thread uses; the last one was in use last."""

    async def run(
        self, kind: _Kind, work: Work[T], project: str | None, *, patient: bool = False
    ) -> T:
        """Executes a transaction, which goes on also if the caller is cancelled."""
        pulse = None if patient else self._pulse
        if pulse is not None and not pulse.beats:
            raise Unreachable(GONE)
        job = _Job()
        future = self._threads.submit(self._execute, job, kind, work, project)
        answer = asyncio.wrap_future(future)
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        await asyncio.wait([answer], timeout=min(POLL_SECONDS, WAIT_SECONDS))
        while not answer.done():
            # Only what no thread has begun is cancelled.
            if loop.time() >= until and future.cancel():
                raise Unreachable("every connection to the database is in use")
            if pulse is not None and not pulse.beats:
                job.give_up()
                future.cancel()
                # Nobody asks for its error any more.
                answer.add_done_callback(lambda done: done.cancelled() or done.exception())
                raise Unreachable(GONE)
            if job.connection is not None:
                job.connection.give_up_if_silent()
            await asyncio.wait([answer], timeout=POLL_SECONDS)
        try:
            return await answer
        finally:
            # Their error, through the traceback, would keep this frame, and be kept by it.
            del answer, future

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._close_idle()

    def _execute(self, job: _Job, kind: _Kind, work: Work[T], project: str | None) -> T:
        try:
            try:
                return self._attempt(job, kind, work, project)
            except psycopg.Error as error:
                if kind.begin or not (_stale(error) or _lost(job, error)):
                    raise
                # While it was idle, as when the server was restarted, or its tables were changed.
                # It only reads: once more. Others that were idle are no better.
                self._close_idle()
                return self._attempt(job, kind, work, project)
        except psycopg.Error as error:
            raise translate_disconnects(error) from error

    def _attempt(self, job: _Job, kind: _Kind, work: Work[T], project: str | None) -> T:
        connection = self._begun(job, kind)
        try:
            result = perform(work, Transaction(Cursor(connection), DATABASE, project))
            if kind.begin:
                _commit(connection)
        except psycopg.Error:
            # Nobody knows what it is worth: it may have lost its prepared statements.
            connection.close()
            raise
        except BaseException:
            # Closed where that fails; the error that is raised is the first one.
            if kind.begin:
                with contextlib.suppress(psycopg.Error):
                    connection.command(b"ROLLBACK", SILENCE_SECONDS)
            raise
        finally:
            if connection.silent:
                # The answer came just when it was given up.
                connection.close()
            if not connection.closed:
                self._idle.append(connection)
        return result

    def _begun(self, job: _Job, kind: _Kind) -> Connection:
        """Returns a connection on which a transaction has begun, if one is to begin."""
        connection = self._connected(job, kind)
        if job.given_up:
            # Before it had this one.
            connection.close()
            raise psycopg.OperationalError(GONE)
        return connection

    def _connected(self, job: _Job, kind: _Kind) -> Connection:
        # One may have been lost while it was idle, as when the server was restarted.
        with contextlib.suppress(IndexError, psycopg.Error):
            connection = job.connection = self._idle.pop()
            _begin(connection, kind)
            return connection
        connection = job.connection = _connect(self._parameters)
        _begin(connection, kind)
        return connection

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


def _begin(connection: Connection, kind: _Kind) -> None:
    connection.patience = SILENCE_SECONDS if kind.short else connection.limit
    if kind.begin:
        connection.command(kind.begin, SILENCE_SECONDS)


def _stale(error: psycopg.Error) -> bool:
    """Whether what a connection had prepared has gone, or no longer fits the tables."""
    if isinstance(error, psycopg.errors.FeatureNotSupported):
        return error.diag.source_function == "RevalidateCachedQuery"
    return isinstance(error, psycopg.errors.InvalidSqlStatementName)


def _lost(job: _Job, error: psycopg.Error) -> bool:
    """Whether the connection of a job was broken by the other side."""
    broken = isinstance(error, psycopg.OperationalError) and (
        error.sqlstate is None
        or isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown)
    )
    return broken and job.connection is not None and not job.connection.silent


def _connect(parameters: Mapping[str, Any]) -> Connection:
    driver = _Connecting.connect(autocommit=True, prepare_threshold=None, **parameters)
    try:
        driver.execute(LIMITS)
        [(limit,)] = driver.execute(LIMIT).fetchall()
        connection = Connection(driver)
    except BaseException:
        driver.close()
        raise
    connection.limit = limit / 1000 + SILENCE_SECONDS if limit else None
    return connection


def _commit(connection: Connection) -> None:
    if connection.command(b"COMMIT", connection.patience) != b"COMMIT":
        # The answer, without an error, where a statement has failed and the work went on.
        raise psycopg.errors.InFailedSqlTransaction("a statement of the transaction had failed")


class PostgreSQL:
    """One PostgreSQL database."""

    def __init__(self, url: URL, calls: int, engine: int) -> None:
        """Connects at the first transaction; for calls and the run engine, up to so many times."""
        self._parameters = parameters(url)
        self._sizes = calls, engine
        self.pulse = Pulse(self._parameters)
        self._tasks = BackgroundTasks(StorageError)
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    @functools.cached_property
    def _calls(self) -> _Pool:
        return _Pool(self._parameters, self._sizes[0], "postgresql-calls", self.pulse)

    @functools.cached_property
    def _engine(self) -> _Pool:
        return _Pool(self._parameters, self._sizes[1], "postgresql-engine", self.pulse)

    @functools.cached_property
    def _renewals(self) -> _Pool:
        return _Pool(self._parameters, RENEWAL_CONNECTIONS, "postgresql-renewals")

    async def renew(self, work: Work[T]) -> T:
        """Does the same as `write` for work of all projects that renews a lease."""
        return await self._tasks.join(self._tasks.start(self._renewals.run(_WRITE, work, None)))

    async def write(self, work: Work[T], project: str | None, thread: str | None = None) -> T:
        """Returns what `work` returns, once it is committed.

        Of the transactions that write to one chat `thread`, one is in the database and the others
        wait here, where they hold no connection. Raises Unreachable, and what `work` raises; an
        Unreachable at the end may have been committed all the same.
        """
        pool = self._engine if project is None else self._calls
        turn = contextlib.nullcontext() if thread is None else self._turn(thread)
        # What is written under a claim: a run that goes on is better than a new attempt.
        patient = project is None and thread is not None
        execute = functools.partial(pool.run, _WRITE, work, project, patient=patient)
        return await self._tasks.join(self._tasks.start(_in_turn(turn, execute)))

    async def read(self, work: Work[T], project: str | None, *, at_once: bool = False) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement.

        `at_once`: it has no other.
        """
        kind = _READ_AT_ONCE if at_once else _READ
        return await self._tasks.join(self._tasks.start(self._calls.run(kind, work, project)))

    async def get(self, work: Work[T], project: str | None, *, together: bool = False) -> T:
        """Does the same for rows by their keys and short pages; `together`, only if asked for."""
        kind = _READ if together else _GET
        return await self._tasks.join(self._tasks.start(self._calls.run(kind, work, project)))

    async def close(self) -> None:
        """Closes every connection, once all that was begun has ended."""
        # Taken out first: whoever comes meanwhile has others.
        names = ("_calls", "_engine", "_renewals")
        pools = [pool for name in names if (pool := self.__dict__.pop(name, None)) is not None]
        await self._tasks.join_all()
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


async def _in_turn(
    turn: AbstractAsyncContextManager[None], execute: Callable[[], Awaitable[T]]
) -> T:
    async with turn:
        return await execute()
