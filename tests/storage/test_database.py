"""Transactions: all or nothing, one after the other, and clean after a failure."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import col, func, select, update

from storage import Storage, clock
from storage.database import Database, parse_url
from storage.tables import Thread
from tests.storage.rows import PROJECT, make_thread

FULL = 2
"""SQLite's number for it."""


async def test_a_transaction_that_fails_leaves_nothing(storage: Storage) -> None:
    thread = await make_thread(storage)
    with pytest.raises(ZeroDivisionError):
        async with storage.database.transaction() as session:
            changed = update(Thread).where(col(Thread.id) == thread.id)
            await session.exec(changed.values(last_position="changed"))
            raise ZeroDivisionError
    assert await storage.threads.get(PROJECT, thread.id) == thread


async def test_a_transaction_that_is_cancelled_leaves_nothing_and_holds_nothing(
    storage: Storage,
) -> None:
    thread = await make_thread(storage)
    inside = asyncio.Event()

    async def write() -> None:
        async with storage.database.transaction() as session:
            changed = update(Thread).where(col(Thread.id) == thread.id)
            await session.exec(changed.values(last_position="changed"))
            inside.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(write())
    await inside.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert await storage.threads.get(PROJECT, thread.id) == thread
    await storage.threads.modify(PROJECT, thread.id, {"metadata_": {"a": "1"}})


async def test_a_read_sees_one_moment(storage: Storage) -> None:
    thread = await make_thread(storage)
    count = select(func.count()).select_from(Thread)
    async with storage.database.read() as session:
        assert (await session.exec(count)).one() == 1
        await storage.threads.delete(PROJECT, thread.id)
        assert (await session.exec(count)).one() == 1
    async with storage.database.read() as session:
        assert (await session.exec(count)).one() == 0


async def test_read_then_write_loses_nothing(database_url: str) -> None:
    """Two servers, twenty writers: each counts one up from what it has read."""
    servers = [Storage(Database(database_url)) for _ in range(2)]
    thread = await make_thread(servers[0])

    async def count_up(server: Storage) -> None:
        async with server.database.transaction() as session:
            statement = select(Thread).where(Thread.id == thread.id).with_for_update()
            row = (await session.exec(statement)).one()
            row.metadata_ = {"count": str(int(row.metadata_.get("count", "0")) + 1)}

    await asyncio.gather(*(count_up(server) for server in servers * 10))
    counted = await servers[0].threads.get(PROJECT, thread.id)
    assert counted.metadata_ == {"count": "20"}
    for server in servers:
        await server.database.close()


async def test_sqlite_commits_to_the_disk(tmp_path: Path) -> None:
    """Not to the system's memory, which does not outlive a power cut."""
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    async with database.read() as session:
        found = await (await session.connection()).execute(text("PRAGMA synchronous"))
        assert found.scalar_one() == FULL
    await database.close()


async def test_the_clock_is_the_databases_and_runs(storage: Storage) -> None:
    async with storage.database.transaction() as session:
        first, second = [await clock.read(session) for _ in range(2)]
        async with storage.database.read() as other:
            third = await clock.read(other)
    # The year 2020 to the year 2100, and never backwards.
    assert 1_577_836_800 < first <= second <= third < 4_102_444_800


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///data/a.db", "sqlite+aiosqlite"),
        ("postgresql://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg"),
        ("postgres://u:p@h/d", "postgresql+asyncpg"),
    ],
)
def test_urls(url: str, driver: str) -> None:
    parsed = parse_url(url)
    assert (parsed.drivername, parsed.database) == (driver, url.split("/", 3)[-1])


def test_sslmode_is_asyncpgs_ssl() -> None:
    parsed = parse_url("postgresql://u@h/d?sslmode=require&host=/run")
    assert dict(parsed.query) == {"ssl": "require", "host": "/run"}


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://h/d", "data/a.db", "sqlite://", "sqlite:///:memory:"]
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_url(url)
