"""The connection to SQLite or PostgreSQL: transactions, reads, migrations."""

import asyncio
import contextlib
import functools
import inspect
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiosqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import outage
from storage.errors import StorageError, Unreachable
from storage.unfinished import Unfinished

MIGRATION_LOCK = 0x617373697374
"""The advisory lock that servers which start together take in turn (`assist` in ASCII)."""

BUSY_SECONDS = 60
"""How long a writer waits for another server's transaction on a SQLite file."""

T = TypeVar("T")


def parse_url(url: str) -> URL:
    """Returns the URL with the async driver filled in. ValueError for anything unsupported."""
    try:
        parsed = make_url(url)
    except Exception as error:
        raise ValueError("not a database URL") from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database in (None, "", ":memory:"):
            # Each connection would have a database of its own.
            raise ValueError("SQLite in memory is not supported, name a file: sqlite:///PATH")
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            # The driver has libpq's words for it, but another name.
            names = {"sslmode": "ssl"}
            query = {names.get(name, name): value for name, value in parsed.query.items()}
            return parsed.set(drivername="postgresql+asyncpg", query=query)
        case name:
            raise ValueError(f"{name} is not supported, only sqlite and postgresql are")


class Database:
    """One database. Sessions hand out rows that stay readable after their transaction."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Opens nothing yet. `pool_size` is the number of connections at most."""
        self.url = parse_url(url)
        self._sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 60}
        if self._sqlite:
            options["connect_args"] = {"timeout": BUSY_SECONDS}
        else:
            options["pool_pre_ping"] = True
        self._engine = create_async_engine(self.url, **options)
        self._writer = self._engine.execution_options(immediate=True)
        self._reader = self._engine
        if not self._sqlite:
            # Several statements that see one moment, which is what SQLite does anyway.
            self._reader = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        # One server owns a SQLite file: its writers queue here rather than poll a busy file.
        self._turn = asyncio.Lock()
        self._unfinished = Unfinished(StorageError)
        if self._sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Gives a session whose changes are committed together at the end, or not at all.

        On SQLite it holds the write lock from its first statement on. On PostgreSQL, whoever writes
        to a thread locks the thread's row before anything else, so that no two wait for each other.
        Raises Unreachable; if that happens at the end, the changes may be committed all the same.
        """
        with outage.told():
            async with (
                self._turn if self._sqlite else contextlib.nullcontext(),
                AsyncSession(self._writer, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Gives a session for reading. All that it reads is as it was at its first statement.

        Raises Unreachable.
        """
        with outage.told():
            async with AsyncSession(self._reader, expire_on_commit=False) as session:
                yield session

    async def migrate(self) -> None:
        """Brings the schema up to date. Servers may do so at the same time. Raises Unreachable."""
        try:
            await (await self.connect()).close()
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from error
        except DBAPIError as error:
            raise Unreachable(str(error.orig).splitlines()[0]) from error
        except TypeError as error:
            # What the driver makes of a parameter in the URL that it does not know.
            raise Unreachable(str(error)) from error
        async with self._writer.begin() as connection:
            if not self._sqlite:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
            await connection.run_sync(_upgrade)

    async def connect(self) -> AsyncConnection:
        """Returns a bare connection, for looking at the schema; the caller closes it."""
        return await self._engine.connect()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns what `work` returns; it goes on to its end also if its caller is cancelled."""
        return await self._unfinished.finish(self._unfinished.begin(work))

    async def close(self) -> None:
        """Closes every connection, once all that was begun is finished."""
        await self._unfinished.settled()
        await self._engine.dispose()


class _Repository(Protocol):
    _database: Database


R = TypeVar("R", bound=_Repository)


def finishing(repository: type[R]) -> type[R]:
    """Lets the public methods of a repository finish what they began when a caller is cancelled.

    A statement that is broken off costs its connection. SQLite's may even keep the write lock, for
    as long as a cursor is left in the exception.
    """
    for name, method in vars(repository).items():
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            setattr(repository, name, _finishing(method))
    return repository


def _finishing(method: Any) -> Any:
    @functools.wraps(method)
    async def finish(self: _Repository, *args: Any, **kwargs: Any) -> Any:
        return await self._database.finish(method(self, *args, **kwargs))

    return finish


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", _escaped(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _escaped(path: Path) -> str:
    # Alembic's configuration takes % for the start of a placeholder.
    return str(path).replace("%", "%%")


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own BEGIN would come too late for IMMEDIATE: see _begin_sqlite.
    connection.isolation_level = None
    connection.run_async(_set_pragmas)


async def _set_pragmas(connection: aiosqlite.Connection) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Of several that turn a new file to WAL, SQLite refuses all but one, without a wait.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)
    # What was answered is on the disk, also when the power goes: one more fsync for each commit.
    await connection.execute("PRAGMA synchronous = FULL")
    await connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
