"""A database that is away is told from one that refuses."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from sqlmodel import col, update

from storage import Storage, outage
from storage import database as database_module
from storage.database import Database
from storage.errors import Unreachable
from storage.tables import Thread
from tests.postgres import Postgres
from tests.storage.rows import PROJECT, make_thread


@pytest.fixture
async def on_postgres(postgres: Postgres) -> AsyncIterator[Storage]:
    """The repositories on a fresh PostgreSQL database."""
    name = postgres.create_database()
    database = Database(postgres.url(name))
    yield Storage(database)
    await database.close()
    postgres.drop_database(name)


@contextlib.asynccontextmanager
async def beside(storage: Storage) -> AsyncIterator[asyncpg.Connection]:
    """Gives a connection of somebody else."""
    url = storage.database.url.set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    yield connection
    await connection.close()


async def terminate(storage: Storage) -> int:
    """Has PostgreSQL drop every other connection, and returns how many those were."""
    async with beside(storage) as connection:
        found = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    return len(found)


@pytest.mark.parametrize("at", ["statement", "commit"])
async def test_a_connection_that_is_lost(on_postgres: Storage, at: str) -> None:
    thread = await make_thread(on_postgres)
    changed = update(Thread).where(col(Thread.id) == thread.id).values(last_position="changed")
    with pytest.raises(Unreachable):
        async with on_postgres.database.transaction() as session:
            await session.exec(changed)
            assert await terminate(on_postgres) == 1
            if at == "statement":
                await session.exec(changed)
    assert await on_postgres.threads.get(PROJECT, thread.id) == thread


async def test_a_connection_that_is_lost_while_it_works(on_postgres: Storage) -> None:
    async def read() -> None:
        async with on_postgres.database.read() as session:
            await (await session.connection()).execute(text("SELECT pg_sleep(60)"))

    reading = asyncio.create_task(read())
    while await terminate(on_postgres) == 0:
        await asyncio.sleep(0.01)
    with pytest.raises(Unreachable):
        await reading


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/x", "postgresql://nobody@/x?host=/nonexistent"]
)
async def test_a_server_that_is_not_there(url: str) -> None:
    database = Database(url)
    with pytest.raises(Unreachable):
        await make_thread(Storage(database))
    with pytest.raises(Unreachable):
        await Storage(database).threads.get(PROJECT, "thread_1")


async def test_a_primary_that_is_none_any_more(on_postgres: Storage) -> None:
    async with beside(on_postgres) as connection:
        name = on_postgres.database.url.database
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(Unreachable, match="read-only"):
        await make_thread(on_postgres)


async def test_a_file_that_another_server_writes_to(
    migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
    database = Database(f"sqlite:///{migrated_file}")
    with contextlib.closing(sqlite3.connect(migrated_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable, match="database is locked"):
            await make_thread(Storage(database))
    await database.close()


def test_a_pool_that_has_no_connection_left() -> None:
    engine = create_engine(
        "sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with engine.connect(), pytest.raises(Unreachable, match="QueuePool"), outage.told():
        engine.connect()
    engine.dispose()


async def test_what_is_refused_is_no_outage(storage: Storage) -> None:
    for statement in ("SELECT * FROM nowhere", "INSERT INTO threads (id) VALUES ('1')"):
        with pytest.raises(DBAPIError):
            async with storage.database.transaction() as session:
                await (await session.connection()).execute(text(statement))
