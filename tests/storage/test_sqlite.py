"""SQLite: one writer whose transactions share commits, and what goes wrong on the disk."""

import asyncio
import contextlib
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, func, select, update

from storage import Storage, rows, sqlite_writer
from storage.database import Database
from storage.errors import DiskFull, NotFound
from storage.messages import LIST, NewMessage
from storage.pages import PageRequest
from storage.resources import NOTHING
from storage.rows import Message
from storage.sqlite import AT_ONCE
from storage.statements import Statement
from storage.tables import Thread
from storage.transaction import Transaction
from tests.support.storage.rows import PROJECT

COUNT: Statement[Any] = Statement(select(func.count()).select_from(Thread))
MIB = 2**20


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Storage]:
    """The repositories on a fresh SQLite file."""
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    await database.migrate()
    yield Storage(database)
    await database.close()


async def make_thread(storage: Storage) -> rows.Thread:
    """Inserts a thread, in one transaction."""
    return await storage.threads.create(PROJECT, {}, NOTHING, [])


def count(storage: Storage) -> int:
    """Returns how many threads somebody else finds in the file."""
    with contextlib.closing(sqlite3.connect(str(storage.database.url.database))) as other:
        return int(other.execute("SELECT count(*) FROM threads").fetchone()[0])


def create(storage: Storage) -> Coroutine[Any, Any, Any]:
    """Inserts a thread, in one transaction."""
    return storage.threads.create(PROJECT, {}, NOTHING, [])


def sql(statement: str) -> Statement[Any]:
    """A statement of the test's own."""
    return Statement(text(statement))


@asynccontextmanager
async def traced(storage: Storage) -> AsyncIterator[list[str]]:
    """Keeps the writer busy until the body ends, and gives the list of what it executes later."""
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    executed: list[str] = []

    def hold(tx: Transaction) -> None:
        connection: sqlite3.Connection = tx._cursor.connection  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(begun.set)
        assert ended.wait(60)
        connection.set_trace_callback(executed.append)

    holding = asyncio.create_task(storage.database.write(hold, alone=True))
    await begun.wait()
    yield executed
    ended.set()
    await holding


@pytest.mark.parametrize(("seconds", "commits"), [(60.0, 3), (0.0, 300)])
async def test_groups_are_bounded(
    on_sqlite: Storage, monkeypatch: pytest.MonkeyPatch, seconds: float, commits: int
) -> None:
    """In count, and in time."""
    monkeypatch.setattr(sqlite_writer, "GROUP_SECONDS", seconds)
    async with traced(on_sqlite) as executed:
        making = [asyncio.create_task(create(on_sqlite)) for _ in range(300)]
        await asyncio.sleep(0)
    await asyncio.gather(*making)
    # The one that kept the writer busy has one of its own.
    assert executed.count("COMMIT") == 1 + commits


async def test_alone_is_alone(on_sqlite: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "GROUP_SECONDS", 60.0)
    thread = await make_thread(on_sqlite)
    async with traced(on_sqlite) as executed:
        working = [
            asyncio.create_task(each)
            for each in (
                create(on_sqlite),
                create(on_sqlite),
                on_sqlite.threads.copy(PROJECT, thread.id),
                create(on_sqlite),
            )
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*working)
    steps = [each for each in executed if each in ("BEGIN IMMEDIATE", "SAVEPOINT one", "COMMIT")]
    of_group = [["BEGIN IMMEDIATE", *["SAVEPOINT one"] * size, "COMMIT"] for size in (2, 1, 1)]
    assert steps == ["COMMIT", *of_group[0], *of_group[1], *of_group[2]]


async def test_nobody_is_answered_before_the_commit(on_sqlite: Storage) -> None:
    async def make() -> int:
        await make_thread(on_sqlite)
        return count(on_sqlite)

    assert set(await asyncio.gather(*(make() for _ in range(100)))) <= set(range(1, 101))
    assert count(on_sqlite) == 100


async def test_a_commit_that_fails_fails_its_whole_group(
    on_sqlite: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "GROUP_SECONDS", 60.0)

    def insert_later_refused(tx: Transaction) -> None:
        # Checked at the commit only.
        tx.run(sql("PRAGMA defer_foreign_keys = ON"))
        tx.insert(
            Message(
                id="msg_1",
                project_id=PROJECT,
                thread_id="thread_nowhere",
                position="1",
                context_position="1",
                created_at=1,
                status="completed",
                role="user",
                content=[],
                attachments=[],
                metadata_={},
            )
        )

    async with traced(on_sqlite):
        working = [
            asyncio.create_task(each)
            for each in (
                create(on_sqlite),
                on_sqlite.database.write(insert_later_refused),
                create(on_sqlite),
                on_sqlite.threads.modify(PROJECT, "thread_nowhere", {}),
            )
        ]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*working, return_exceptions=True)
    assert [type(each) for each in outcomes] == [sqlite3.IntegrityError] * 4
    # Each has an error of its own, with a traceback of its own.
    assert len({id(each) for each in outcomes}) == 4
    assert count(on_sqlite) == 0
    await make_thread(on_sqlite)
    assert count(on_sqlite) == 1


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Lets this process write no file that is larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("refused", [False, True])
async def test_a_disk_that_fails_in_the_middle_of_a_group(
    on_sqlite: Storage, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """All of it is rolled back; and what one was answered, no other is."""
    monkeypatch.setattr(sqlite_writer, "GROUP_SECONDS", 60.0)
    thread = await make_thread(on_sqlite)

    def too_much(tx: Transaction) -> None:
        try:
            tx.update(thread, metadata_={"a": "x" * 64 * MIB})
        except sqlite3.OperationalError as error:
            if refused:
                raise NotFound("thread", thread.id) from error
            raise

    with files_up_to(16 * MIB):
        async with traced(on_sqlite):
            working = [
                asyncio.create_task(each)
                for each in (
                    create(on_sqlite),
                    on_sqlite.database.write(too_much),
                    create(on_sqlite),
                )
            ]
            await asyncio.sleep(0)
        before, failed, after = await asyncio.gather(*working, return_exceptions=True)
    expected = sqlite3.OperationalError if refused else DiskFull
    assert [type(each) for each in (before, failed)] == [expected] * 2
    # Behind it, a group of its own has begun.
    assert isinstance(after, type(thread))
    assert await on_sqlite.threads.get(PROJECT, thread.id) == thread
    assert count(on_sqlite) == 2


async def test_one_whose_savepoint_fails_is_answered(on_sqlite: Storage) -> None:
    released = on_sqlite.database.write(lambda tx: tx.run(sql("RELEASE one")))
    async with asyncio.timeout(60):
        with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
            await released
        await make_thread(on_sqlite)


async def test_a_read_cannot_write(on_sqlite: Storage) -> None:
    thread = await make_thread(on_sqlite)
    changed = Statement[Any](
        update(Thread).where(col(Thread.id) == thread.id).values(last_position="changed")
    )
    for read in (on_sqlite.database.read, on_sqlite.database.get):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await read(lambda tx: tx.run(changed))


def test_loops_of_several_threads(on_sqlite: Storage) -> None:
    """Each does as if it were the only one."""

    async def use() -> None:
        for _ in range(100):
            thread = await make_thread(on_sqlite)
            assert await on_sqlite.threads.get(PROJECT, thread.id) == thread
            assert (await on_sqlite.threads.list(PROJECT, PageRequest(limit=1), {})).data

    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(use())
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []


async def test_what_is_long_is_read_by_a_thread(on_sqlite: Storage) -> None:
    words = [
        NewMessage("user", [{"type": "text", "text": {"value": word * 1000}}]) for word in "ab"
    ]
    thread = await on_sqlite.threads.create(PROJECT, {}, NOTHING, words)
    readers: list[int] = []

    def read(tx: Transaction) -> list[str]:
        found = LIST.page(tx, PageRequest(), thread_id=thread.id).data
        readers.append(threading.get_ident())
        return [each.id for each in found]

    short = await on_sqlite.database.get(read, PROJECT)
    assert readers == [threading.get_ident()]
    long = NewMessage("user", [{"type": "text", "text": {"value": "c" * AT_ONCE}}])
    created = await on_sqlite.messages.create(PROJECT, thread.id, long)
    assert await on_sqlite.database.get(read, PROJECT) == [created.id, *short]
    assert len(readers) == 2
    assert readers[1] != threading.get_ident()
    assert (await on_sqlite.messages.get(PROJECT, thread.id, created.id)).content == long.content
