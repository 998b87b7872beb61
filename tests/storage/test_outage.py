"""A database that is away is distinguished from one that refuses."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import col, update

from storage import Storage, postgresql, sqlite
from storage.database import Database
from storage.errors import DiskFull, Unreachable
from storage.statements import Statement
from storage.tables import Thread
from storage.transaction import Transaction
from tests.support.postgres import Postgres
from tests.support.storage.rows import DATABASE_ERRORS, PROJECT, execute, make_thread


@pytest.fixture
async def on_postgres(postgres: Postgres) -> AsyncIterator[Storage]:
    """The repositories on a fresh PostgreSQL database."""
    name = postgres.create_database()
    database = Database(postgres.url(name))
    yield Storage(database)
    await database.close()
    postgres.drop_database(name)


def beside(storage: Storage, sql: str) -> int:
    """Executes something on a connection of somebody else; returns how many rows came of it."""
    url = storage.database.url.set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        return connection.execute(sql.encode()).rowcount


def terminate(storage: Storage) -> int:
    """Has PostgreSQL drop every other connection, and returns how many those were."""
    return beside(
        storage,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize("at", ["statement", "commit"])
async def test_a_connection_that_is_lost(on_postgres: Storage, at: str) -> None:
    thread = await make_thread(on_postgres)
    changed = Statement[Any](
        update(Thread).where(col(Thread.id) == thread.id).values(last_position="changed")
    )

    def work(tx: Transaction) -> None:
        tx.run(changed)
        assert terminate(on_postgres) >= 1
        if at == "statement":
            tx.run(changed)

    with pytest.raises(Unreachable):
        await on_postgres.database.write(work)
    assert await on_postgres.threads.get(PROJECT, thread.id) == thread


async def test_a_connection_that_is_lost_while_it_is_idle(on_postgres: Storage) -> None:
    thread = await make_thread(on_postgres)
    assert terminate(on_postgres) >= 1
    assert await on_postgres.threads.get(PROJECT, thread.id) == thread


async def test_a_connection_that_is_lost_while_it_works(on_postgres: Storage) -> None:
    sleep = Statement[Any](text("SELECT pg_sleep(60)"))
    reading = asyncio.create_task(on_postgres.database.read(lambda tx: tx.run(sleep)))
    while await asyncio.to_thread(terminate, on_postgres) == 0:
        await asyncio.sleep(0.01)
    with pytest.raises(Unreachable):
        await reading


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/x", "postgresql://nobody/x?host=/nonexistent"]
)
async def test_a_server_that_is_not_there(url: str) -> None:
    database = Database(url)
    with pytest.raises(Unreachable):
        await make_thread(Storage(database))
    with pytest.raises(Unreachable):
        await Storage(database).threads.get(PROJECT, "thread_1")


async def test_a_primary_that_is_none_any_more(on_postgres: Storage) -> None:
    name = on_postgres.database.url.database
    beside(on_postgres, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(Unreachable, match="read-only"):
        await make_thread(on_postgres)


async def test_a_file_that_another_server_writes_to(
    migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    database = Database(f"sqlite:///{migrated_file}")
    with contextlib.closing(sqlite3.connect(migrated_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable, match="database is locked"):
            await make_thread(Storage(database))
    await database.close()


async def test_a_file_that_another_server_brings_up_to_date(
    migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(migrated_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable, match="database is locked"):
            await Database(f"sqlite:///{migrated_file}").migrate()


async def test_every_connection_is_in_use(
    on_postgres: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "WAIT_SECONDS", 0.1)
    free = threading.Event()
    busy = [
        asyncio.create_task(on_postgres.database.read(lambda _: free.wait(60), PROJECT))
        for _ in range(10)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match="in use"):
        await on_postgres.threads.get(PROJECT, "thread_1")
    free.set()
    await asyncio.gather(*busy)


async def test_what_is_refused_is_no_outage(storage: Storage) -> None:
    for statement in ("SELECT * FROM nowhere", "INSERT INTO threads (id) VALUES ('1')"):
        with pytest.raises(DATABASE_ERRORS):
            await execute(storage, text(statement))


async def test_a_disk_of_postgres_that_is_full(on_postgres: Storage) -> None:
    full = Statement[Any](text("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$"))
    with pytest.raises(DiskFull):
        await on_postgres.database.write(lambda tx: tx.run(full))
    await make_thread(on_postgres)
