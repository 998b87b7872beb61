"""The database of a server, SQLite or PostgreSQL: transactions, reads, migrations."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from storage import disconnects, pgvector, postgresql, schema, sqlite
from storage.errors import Unreachable
from storage.postgresql import PostgreSQL
from storage.schema import Migrated
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

    def __init__(self, url: str, *, connections: int = 10, engine_connections: int = 4) -> None:
        """Connects at the first transaction; on PostgreSQL, so many times at most.

        Calls share `connections`; the run engine has `engine_connections` for itself.
        """
        self.url = parse_url(url)
        self._adapter: SQLite | PostgreSQL
        if self.url.get_backend_name() == "sqlite":
            self._adapter = SQLite(str(self.url.database))
        else:
            self._adapter = PostgreSQL(self.url, connections, engine_connections)

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

    async def read(self, work: Work[T], project: str | None = None, *, at_once: bool = False) -> T:
        """Returns what `work` returns; all that it reads is as it was at its first statement.

        On PostgreSQL, what is read `at_once`, with a single statement, takes no transaction. Raises
        Unreachable.
        """
        if isinstance(self._adapter, SQLite):
            return await self._adapter.read(work, project)
        return await self._adapter.read(work, project, at_once=at_once)

    async def get(self, work: Work[T], project: str | None = None, *, together: bool = False) -> T:
        """Does the same for work that reads a few rows by their keys, or a page by its index.

        On SQLite, what is short is read without a thread. On PostgreSQL, it takes no transaction:
        each statement sees what is there when it begins, unless rows are to be read `together`.
        """
        return await self._adapter.get(work, project, together=together)

    async def migrate(self) -> Migrated:
        """Brings the schema up to date. Servers may do so at the same time.

        Raises Unreachable, and TooOld where the schema is of newer code, and does not take this.
        """
        return await asyncio.to_thread(self._migrate)

    def _migrate(self) -> Migrated:
        try:
            with self.connect() as connection, connection.begin():
                if connection.dialect.name == "postgresql":
                    lock = text("SELECT pg_advisory_xact_lock(:key)")
                    connection.execute(lock, {"key": MIGRATION_LOCK})
                migrated = schema.migrate(connection)
                if connection.dialect.name == "postgresql":
                    pgvector.prepare(connection)
                return migrated
        except DBAPIError as error:
            away = disconnects.translate_disconnects(error.orig or error)
            if isinstance(away, Unreachable):
                raise away from error
            raise

    async def watch(self, changed: Callable[[bool], None]) -> None:
        """Says whenever the database has gone, and when it is back; until it is cancelled.

        Meanwhile, work is Unreachable at once, except for what is written under a claim. A file is
        always there.
        """
        if isinstance(self._adapter, SQLite):
            await asyncio.Event().wait()
        else:
            await self._adapter.pulse.watch(changed)

    async def wait(self) -> None:
        """Waits until the database is not known to have gone."""
        if isinstance(self._adapter, PostgreSQL):
            await self._adapter.pulse.wait()

    @property
    def is_gone(self) -> bool:
        """Whether the database is known not to answer."""
        return isinstance(self._adapter, PostgreSQL) and not self._adapter.pulse.beats

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
