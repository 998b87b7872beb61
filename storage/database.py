"""The database of a server, SQLite or PostgreSQL: transactions, reads, migrations."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from storage import disconnects, pgvector, postgresql, sqlite
from storage.errors import Unreachable
from storage.postgresql import PostgreSQL
from storage.sqlite import SQLite
from storage.transaction import Transaction

MIGRATION_LOCK = 0x617373697374
"""The advisory lock that servers which start together take in turn (`assist` in ASCII)."""

T = TypeVar("T")
Work = Callable[[Transaction], T]


def parse_url(url: str) -> URL:
    """Returns the URL with the driver filled in. ValueError for anything unsupported."""
    try:
        parsed = make_url(url)
    except Exception as error:
        raise ValueError("not a database URL") from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database in (None, "", ":memory:"):
            # Each connection would have a database of its own.
            raise ValueError("SQLite in memory is not supported, name a file: sqlite:///PATH")
        case "sqlite" if parsed.query:
            raise ValueError(f"SQLite does not take parameters: {', '.join(parsed.query)}")
        case "sqlite":
            return parsed.set(drivername="sqlite")
        case "postgresql" | "postgres":
            if any("@" in (part or "") for part in (parsed.host, parsed.database)):
                # What stands ahead of it is the end of a password, and would be shown as a host.
                raise ValueError("an @ in a user or a password is written as %40")
            parsed = parsed.set(drivername="postgresql+psycopg")
            postgresql.parameters(parsed)
            return parsed
        case name:
            raise ValueError(f"{name} is not supported, only sqlite and postgresql are")


class Database:
    """One database.

    Work is a synchronous function of a transaction: what it does is committed together, or not at
    all. It is of one project; the run engine's and the reconciler's, with None, are of all.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Connects at the first transaction; on PostgreSQL, up to `pool_size` times for calls."""
        self.url = parse_url(url)
        self._adapter: SQLite | PostgreSQL
        if self.url.get_backend_name() == "sqlite":
            self._adapter = SQLite(str(self.url.database))
        else:
            self._adapter = PostgreSQL(self.url, pool_size)

    async def write(
        self,
        work: Work[T],
        project: str | None = None,
        *,
        thread: str | None = None,
        alone: bool = False,
    ) -> T:
        """Returns what `work` returns, once it is committed; nothing of it remains if it raises.

        Whoever writes to a chat thread locks the thread's row before anything else, and names it as
        `thread`: on PostgreSQL, one such transaction of this server waits there and the rest here.
        `alone` is for work that takes long: on SQLite, others are not to wait for its commit.

        It goes on to its end also if the caller is cancelled. Raises Unreachable; if that happens
        at the end, the work may be committed all the same.
        """
        if isinstance(self._adapter, SQLite):
            return await self._adapter.write(work, project, alone=alone)
        return await self._adapter.write(work, project, thread)

    async def renew(self, work: Work[T]) -> T:
        """Does the same for work of all projects that renews a lease, and locks no thread.

        On PostgreSQL, nobody who waits for a thread keeps it waiting.
        """
        if isinstance(self._adapter, SQLite):
            return await self._adapter.write(work, None)
        return await self._adapter.renew(work)

    async def read(self, work: Work[T], project: str | None = None) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement.

        Raises Unreachable.
        """
        return await self._adapter.read(work, project)

    async def get(self, work: Work[T], project: str | None = None, *, together: bool = False) -> T:
        """Does the same for work that reads a few rows by their keys, or a page by its index.

        On SQLite, what is short is read without a thread. On PostgreSQL, it takes no transaction:
        each statement sees what is there when it begins, unless rows are to be read `together`.
        """
        return await self._adapter.get(work, project, together=together)

    async def migrate(self) -> None:
        """Brings the schema up to date. Servers may do so at the same time. Raises Unreachable."""
        await asyncio.to_thread(self._migrate)

    def _migrate(self) -> None:
        try:
            with self.connect() as connection, connection.begin():
                if connection.dialect.name == "postgresql":
                    lock = text("SELECT pg_advisory_xact_lock(:key)")
                    connection.execute(lock, {"key": MIGRATION_LOCK})
                _upgrade(connection)
                if connection.dialect.name == "postgresql":
                    pgvector.prepare(connection)
        except DBAPIError as error:
            away = disconnects.translate_disconnects(error.orig or error)
            if isinstance(away, Unreachable):
                raise away from error
            raise

    def connect(self) -> Connection:
        """Returns a connection of SQLAlchemy's, which makes and inspects the schema.

        The caller closes it. Blocks. Raises Unreachable.
        """
        if self.url.get_backend_name() == "sqlite":
            path = str(self.url.database)
            engine = create_engine(
                "sqlite://", creator=lambda: sqlite.connect(path), poolclass=NullPool
            )
            # The driver's own BEGIN would come too late, and without IMMEDIATE.
            event.listen(engine, "begin", lambda each: each.exec_driver_sql("BEGIN IMMEDIATE"))
        else:
            engine = create_engine(
                "postgresql+psycopg://",
                creator=lambda: psycopg.connect(**postgresql.parameters(self.url)),
                poolclass=NullPool,
            )
        try:
            return engine.connect()
        except DBAPIError as error:
            raise Unreachable(str(error.orig).strip().splitlines()[0]) from error

    async def close(self) -> None:
        """Closes every connection, once all that was begun is finished."""
        await self._adapter.close()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", _escaped(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _escaped(path: Path) -> str:
    # Alembic's configuration takes % for the start of a placeholder.
    return str(path).replace("%", "%%")
