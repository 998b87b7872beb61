"""A link to PostgreSQL that stalls: whoever waits gets an error in time, and all recovers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from assistants.v1 import assistants_pb2, runs_pb2, threads_pb2
from sqlalchemy.engine import make_url

from storage import Storage, postgresql, thread_lock
from storage.database import Database
from storage.errors import Unreachable
from storage.resources import NOTHING
from storage.transaction import Transaction
from tests.support.grpc.stubs import Stubs, user
from tests.support.link import DatabaseLink
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.script import Answer, Hold
from tests.support.served import served
from tests.support.storage.rows import PROJECT, claimed, make_run, make_thread, new_run
from tests.support.storage.rows import user as from_user
from tests.support.waiting import SECONDS, until

CALLERS = 12
"""More than there are connections."""


@pytest.fixture
def link(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseLink]:
    """A link to a fresh database; who waits for anything has less patience than usual."""
    monkeypatch.setattr(postgresql, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(postgresql, "WAIT_SECONDS", 5.0)
    monkeypatch.setitem(postgresql.DEFAULTS, "connect_timeout", 2)
    name = postgres.create_database()
    with DatabaseLink(postgres.url(name)) as link:
        # The server's own limit on a statement, which is the client's, too.
        link.url += "?options=-cstatement_timeout%3D1s"
        yield link
    postgres.drop_database(name)


@pytest.fixture
async def storage(link: DatabaseLink) -> AsyncIterator[Storage]:
    database = Database(link.url)
    yield Storage(database)
    link.resume()
    await database.close()


@pytest.fixture
async def beside(postgres: Postgres, link: DatabaseLink) -> AsyncIterator[Storage]:
    """The same database, without the link."""
    name = make_url(link.url).database
    assert name
    database = Database(postgres.url(name))
    yield Storage(database)
    await database.close()


async def outcomes(storage: Storage, thread_id: str) -> list[Any]:
    """Reads and writes, many at once; returns what comes of each."""
    calls = [
        call
        for _ in range(CALLERS)
        for call in (
            storage.threads.get(PROJECT, thread_id),
            storage.messages.create(PROJECT, thread_id, from_user("Hi"), queue=True),
            storage.runs.create_with_thread(PROJECT, {}, NOTHING, [], new_run()),
        )
    ]
    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(*calls, return_exceptions=True)


async def test_calls_are_answered_while_it_stalls_and_after(
    storage: Storage, link: DatabaseLink
) -> None:
    thread = await make_thread(storage)
    assert not any(isinstance(each, Exception) for each in await outcomes(storage, thread.id))
    for _ in range(2):
        link.stall()
        assert {type(each) for each in await outcomes(storage, thread.id)} == {Unreachable}
        link.resume()
        found = await outcomes(storage, thread.id)
        assert [each for each in found if isinstance(each, Exception)] == []


@pytest.mark.parametrize("before", ["a statement", "the commit", "a refusal"])
async def test_a_stall_in_the_middle_of_a_transaction(
    storage: Storage, link: DatabaseLink, before: str
) -> None:
    thread = await make_thread(storage)

    def work(tx: Transaction) -> None:
        tx.update(thread, last_position=before)
        link.stall()
        if before == "a statement":
            tx.now()
        if before == "a refusal":
            raise LookupError

    refused = LookupError if before == "a refusal" else Unreachable
    async with asyncio.timeout(SECONDS):
        with pytest.raises(refused):
            await storage.database.write(work, PROJECT)
    link.resume()
    # What was kept on the way may arrive in the end: a commit is one, then, or is not.
    changed = await storage.threads.get(PROJECT, thread.id)
    assert changed.last_position in ([None, before] if before == "the commit" else [None])


async def test_leases_are_renewed_after_it(storage: Storage, link: DatabaseLink) -> None:
    claim = await claimed(storage, await make_run(storage, await make_thread(storage)))
    link.stall()
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Unreachable):
            await storage.claims.renew(claim)
    link.resume()
    assert await storage.claims.renew(claim) == "in_progress"


async def test_who_is_cut_off_keeps_no_thread_locked(
    postgres: Postgres, link: DatabaseLink, beside: Storage
) -> None:
    """Also not by a transaction that has begun, whose connection PostgreSQL takes to be open."""
    thread = await make_thread(beside)
    limited = Database(f"{link.url}%20-cidle_in_transaction_session_timeout%3D1s")
    stalled, over = threading.Event(), threading.Event()

    def work(tx: Transaction) -> None:
        thread_lock.lock(tx, thread.id, project_id=PROJECT)
        link.stall()
        stalled.set()
        assert over.wait(SECONDS)
        tx.now()

    writing = asyncio.create_task(limited.write(work, PROJECT))
    await until(stalled.is_set)
    async with asyncio.timeout(SECONDS):
        await beside.messages.create(PROJECT, thread.id, from_user("Hi"), queue=True)
    over.set()
    link.resume()
    with pytest.raises(Unreachable):
        await writing
    await limited.close()


async def test_nothing_is_claimed_while_it_stalls(
    storage: Storage, link: DatabaseLink, beside: Storage
) -> None:
    """Another worker does: this one finds out at once, and waits until the database is back."""
    run = await make_run(beside, await make_thread(beside))
    found: asyncio.Queue[bool] = asyncio.Queue()
    watching = asyncio.create_task(storage.database.watch(found.put_nowait))
    try:
        assert not await storage.claims.claim("run_unknown")
        await storage.database.wait()
        link.stall()
        claiming = asyncio.create_task(storage.claims.claim(run.id))
        async with asyncio.timeout(SECONDS):
            assert not await found.get()
        waiting = asyncio.create_task(storage.database.wait())
        for claim in (claiming, storage.claims.claim(run.id)):
            with pytest.raises(Unreachable):
                await claim
        assert not waiting.done()
        assert (await claimed(beside, run)).attempt == 1
        link.resume()
        async with asyncio.timeout(SECONDS):
            assert await found.get()
            await waiting
        assert await storage.claims.claim(run.id) is None
    finally:
        watching.cancel()


async def test_what_was_refused_is_not_done_later(link: DatabaseLink, beside: Storage) -> None:
    """Also not by a thread that was connecting when its caller was answered."""
    thread = await make_thread(beside)
    database = Database(link.url)
    found: asyncio.Queue[bool] = asyncio.Queue()
    watching = asyncio.create_task(database.watch(found.put_nowait))
    link.stall()
    with pytest.raises(Unreachable, match="does not answer"):
        await Storage(database).messages.create(PROJECT, thread.id, from_user("Hi"), queue=True)
    link.resume()
    watching.cancel()
    # Once all threads have come to their ends.
    await database.close()
    assert (await beside.threads.get(PROJECT, thread.id)).last_position is None


async def test_a_server_behind_it(link: DatabaseLink, tmp_path: Path, models: ModelServer) -> None:
    """Calls get the error that it is away, and the run goes on when it is back, with one answer."""
    held = Hold(Answer("Lost."))
    model = models.script(held, Answer("Hello."), Answer("Hello."))
    async with served(tmp_path, link.url, models, lease_seconds=1) as stubs:
        assistant = await stubs.assistants.CreateAssistant(
            assistants_pb2.CreateAssistantRequest(model=model)
        )
        new = runs_pb2.CreateThreadAndRunRequest(
            assistant_id=assistant.id, thread=threads_pb2.NewThread(messages=[user("Hi")])
        )
        run = await stubs.runs.CreateThreadAndRun(new)
        await until(held.started.is_set)
        link.stall()
        held.release()
        get = assistants_pb2.GetAssistantRequest(assistant_id=assistant.id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.assistants.GetAssistant(get, timeout=SECONDS)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        link.resume()
        await _completed(stubs, run.thread_id, run.id)


async def _completed(stubs: Stubs, thread_id: str, run_id: str) -> None:
    get = runs_pb2.GetRunRequest(thread_id=thread_id, run_id=run_id)
    async with asyncio.timeout(SECONDS):
        while not await _is_completed(stubs, get):
            await asyncio.sleep(0.05)


async def _is_completed(stubs: Stubs, get: runs_pb2.GetRunRequest) -> bool:
    try:
        run = await stubs.runs.GetRun(get)
    except grpc.aio.AioRpcError as error:
        # Until the server has noticed that the database is back.
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False
    return bool(run.status == run.Status.completed)
