"""Transactions: all or nothing, one after the other, and clean after a failure."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, func, select, update

from storage import Storage, sqlite, thread_lock
from storage.database import Database, parse_url
from storage.pages import PageRequest
from storage.statements import Statement
from storage.tables import Thread
from storage.transaction import Transaction
from tests.support.storage.rows import PROJECT, holding, make_thread

FULL = 2
"""SQLite's number for it."""

COUNT: Statement[Any] = Statement(select(func.count()).select_from(Thread))


def move(tx: Transaction, thread_id: str) -> None:
    """Changes a thread."""
    changed = update(Thread).where(col(Thread.id) == thread_id).values(last_position="changed")
    tx.run(Statement(changed))


async def test_a_transaction_that_fails_leaves_nothing(storage: Storage) -> None:
    thread = await make_thread(storage)

    def fail(tx: Transaction) -> None:
        move(tx, thread.id)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await storage.database.write(fail)
    assert await storage.threads.get(PROJECT, thread.id) == thread


async def test_one_that_fails_takes_no_other_along(storage: Storage) -> None:
    """Though they may share a commit."""
    threads = [await make_thread(storage) for _ in range(20)]

    def fail_at_odd(tx: Transaction, at: int) -> None:
        move(tx, threads[at].id)
        if at % 2:
            raise ZeroDivisionError

    outcomes = await asyncio.gather(
        *(storage.database.write(partial(_swap, fail_at_odd, at)) for at in range(20)),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [type(None), ZeroDivisionError] * 10
    found = [await storage.threads.get(PROJECT, thread.id) for thread in threads]
    assert [each.last_position for each in found] == ["changed", None] * 10


def _swap(work: Callable[[Transaction, int], None], at: int, tx: Transaction) -> None:
    work(tx, at)


async def test_one_that_raises_what_no_future_takes(storage: Storage) -> None:
    """It is answered, and so are those beside it and behind it."""
    thread = await make_thread(storage)

    def stop(_: Transaction) -> None:
        next(iter(()))

    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(
            storage.threads.modify(PROJECT, thread.id, {}),
            storage.database.write(stop, PROJECT, thread=thread.id),
            storage.threads.modify(PROJECT, thread.id, {}),
            storage.database.read(stop),
            storage.database.get(stop),
            return_exceptions=True,
        )
        assert await storage.threads.modify(PROJECT, thread.id, {}) == thread
    assert [type(each) for each in outcomes if each != thread] == [RuntimeError] * 3


async def test_whoever_comes_while_it_is_closed(storage: Storage) -> None:
    """All are served: those before, and those that come anew."""
    thread = await make_thread(storage)
    async with asyncio.timeout(60):
        async with holding(storage, thread.id):
            before = [asyncio.create_task(make_thread(storage)) for _ in range(20)]
            await asyncio.sleep(0)
            closing = asyncio.create_task(storage.database.close())
            await asyncio.sleep(0)
            after = [
                asyncio.create_task(each)
                for _ in range(20)
                for each in (
                    make_thread(storage),
                    storage.threads.get(PROJECT, thread.id),
                    storage.threads.list(PROJECT, PageRequest(), {}),
                )
            ]
            await asyncio.sleep(0)
        await closing
        await asyncio.gather(*before, *after)
    assert await storage.database.read(lambda tx: tx.value(COUNT)) == 41


async def test_a_read_sees_one_moment(storage: Storage) -> None:
    thread = await make_thread(storage)
    read, deleted = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def look(tx: Transaction) -> tuple[int, int]:
        before = tx.value(COUNT)
        loop.call_soon_threadsafe(read.set)
        assert deleted.wait(60)
        return before, tx.value(COUNT)

    looking = asyncio.create_task(storage.database.read(look))
    await read.wait()
    await storage.threads.delete(PROJECT, thread.id)
    deleted.set()
    assert await looking == (1, 1)
    assert await storage.database.read(lambda tx: tx.value(COUNT)) == 0


async def test_read_then_write_loses_nothing(database_url: str) -> None:
    """Two servers, twenty writers: each counts one up from what it has read."""
    servers = [Storage(Database(database_url)) for _ in range(2)]
    thread = await make_thread(servers[0])

    def count_up(tx: Transaction) -> None:
        row = thread_lock.lock(tx, thread.id)
        tx.update(row, metadata_={"count": str(int(row.metadata_.get("count", "0")) + 1)})

    await asyncio.gather(
        *(server.database.write(count_up, PROJECT, thread=thread.id) for server in servers * 10)
    )
    counted = await servers[0].threads.get(PROJECT, thread.id)
    assert counted.metadata_ == {"count": "20"}
    for server in servers:
        await server.database.close()


def test_sqlite_commits_to_the_disk(tmp_path: Path) -> None:
    """Not to the system's memory, which does not outlive a power cut."""
    with contextlib.closing(sqlite.connect(str(tmp_path / "new.db"))) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (FULL,)


async def test_the_clock_is_the_databases_and_runs(storage: Storage) -> None:
    first, second = await storage.database.write(lambda tx: (tx.now(), tx.now()))
    third = await storage.database.read(lambda tx: tx.now())
    # The year 2020 to the year 2100, and never backwards.
    assert 1_577_836_800 < first <= second <= third < 4_102_444_800


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///data/a.db", "sqlite"),
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
    ],
)
def test_urls(url: str, driver: str) -> None:
    parsed = parse_url(url)
    assert (parsed.drivername, parsed.database) == (driver, url.split("/", 3)[-1])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://h/d",
        "data/a.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_url(url)


@pytest.mark.parametrize("url", ["postgresql://u:p@secret@h/d", "postgresql://u:p@secret/s@h/d"])
def test_passwords_that_look_like_a_host(url: str) -> None:
    with pytest.raises(ValueError, match="an @ in a user or a password is written as %40"):
        parse_url(url)
    assert parse_url("postgresql://u:p%40secret@h/d").password == "p@secret"
    assert parse_url("postgresql://u@h/d?application_name=a@b").host == "h"
