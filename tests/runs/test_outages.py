"""A database that goes away in the middle of an attempt: the run is taken up again."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from service.models.client import ChatModel
from service.runner.attempt import Attempt
from service.runner.events.memory import MemoryBus
from service.runner.events.publisher import Publisher
from service.runner.limits import Limits
from service.runner.openings import PendingWrites
from service.runner.tools.registry import Registry
from storage import Storage, sqlite
from storage.database import Database
from storage.tables import Run
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.runs.engines import NEVER, Engines
from tests.support.script import Answer, Hold
from tests.support.sequences import COMPLETED, PLAIN, QUEUED, SPEAKING
from tests.support.storage.rows import claimed, get_run, make_run, make_thread, set_run
from tests.support.waiting import SECONDS, until

PAST = 1.0
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'relation'"
)


@pytest.fixture
async def servers(postgres: Postgres, chat_model: ChatModel) -> AsyncIterator[Engines]:
    """Engines on a PostgreSQL database."""
    name = postgres.create_database()
    database = Database(postgres.url(name))
    engines = Engines(Storage(database), chat_model)
    yield engines
    await engines.stop()
    await database.close()
    postgres.drop_database(name)


@contextlib.asynccontextmanager
async def blockade(engines: Engines) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Holds the messages against everybody. Gives what has PostgreSQL drop who waits for them."""
    url = engines.storage.database.url.set(drivername="postgresql")
    connection = psycopg.connect(url.render_as_string(hide_password=False))

    async def cut() -> None:
        async with asyncio.timeout(SECONDS):
            while not connection.execute(TERMINATE).fetchall():
                # Within a transaction, what others do is looked at but once.
                connection.execute("SELECT pg_stat_clear_snapshot()")
                await asyncio.sleep(0.01)

    try:
        connection.execute("LOCK TABLE messages")
        yield cut
    finally:
        connection.close()


async def completed(storage: Storage, run: Run) -> None:
    """Waits until the run is."""
    async with asyncio.timeout(SECONDS):
        while (await get_run(storage, run)).status != "completed":
            await asyncio.sleep(0.02)


async def test_while_the_thread_is_read(
    servers: Engines, chat_model: ChatModel, models: ModelServer
) -> None:
    storage = servers.storage
    thread = await make_thread(storage, "Hi")
    run = await make_run(storage, thread, model=models.script(Answer("Hello")))
    # Claimed ahead of the blockade, which would hold that up, too.
    claim, publisher = await claimed(storage, run), Publisher(MemoryBus())
    attempt = Attempt(
        claim,
        storage.claims,
        publisher,
        chat_model,
        Registry(),
        Limits(NEVER, 0),
        PendingWrites(),
    )
    async with blockade(servers) as cut:
        executing = asyncio.create_task(attempt.execute())
        await cut()
    assert await executing is None
    servers.start()
    await completed(storage, run)
    assert [text for _, _, text in await servers.texts(run)] == ["Hi", "Hello"]


async def test_when_the_answer_begins(servers: Engines, models: ModelServer) -> None:
    hold = Hold(Answer("Hello"))
    following = await servers.run(servers.start(), models.script(hold))
    await until(hold.held.is_set)
    async with blockade(servers) as cut:
        hold.release()
        await cut()
    # What could not be written when it began is written when it ends.
    assert await following.ended() == PLAIN
    assert [text for _, _, text in await servers.texts(following.run)] == ["Hi", "Hello"]
    assert len(await servers.steps(following.run)) == 1


async def test_when_the_answer_ends(servers: Engines, models: ModelServer) -> None:
    hold = Hold(Answer("Hello"), after="Hello")
    following = await servers.run(servers.start(), models.script(hold, Answer("Again")))
    await following.received("Hello")
    async with blockade(servers) as cut:
        hold.release()
        await cut()
    assert await following.ended() == [
        *QUEUED,
        *SPEAKING,
        "thread.message.incomplete",
        "thread.run.step.failed",
        QUEUED[-1],
        *SPEAKING,
        *COMPLETED,
    ]
    assert [text for _, _, text in await servers.texts(following.run)] == ["Hi", "Again"]
    assert len(await servers.steps(following.run)) == 1


@pytest.mark.parametrize("after", [None, "Hello"], ids=["begins", "ends"])
async def test_an_outage_that_lasts(
    migrated_copy: Path,
    chat_model: ChatModel,
    models: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    after: str | None,
) -> None:
    """Not even the claim can be given back: its lease runs out."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    storage = Storage(Database(f"sqlite:///{migrated_copy}"))
    engines = Engines(storage, chat_model)
    hold = Hold(Answer("Hello"), after=after)
    engine = engines.start()
    following = await engines.run(engine, models.script(hold, Answer("Again")))
    await until(hold.held.is_set)
    if after is not None:
        await following.received(after)
    with contextlib.closing(sqlite3.connect(migrated_copy, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        hold.release()
        await engines.drain(engine, 60)
    held = await get_run(storage, following.run)
    assert (held.status, held.attempt) == ("in_progress", 1)
    await set_run(storage, following.run, lease_until=PAST)
    engines.start()
    await completed(storage, following.run)
    assert [text for _, _, text in await engines.texts(following.run)] == ["Hi", "Again"]
    await engines.stop()
    await storage.database.close()


@pytest.fixture
def migrated_copy(migrated_file: Path, tmp_path: Path) -> Path:
    """A SQLite file of the test's own."""
    copy = tmp_path / "assistants.db"
    copy.write_bytes(migrated_file.read_bytes())
    return copy
