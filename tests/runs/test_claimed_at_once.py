"""Runs that are claimed as they are created: what can happen before their attempt has begun."""

import asyncio
import contextlib

import pytest

from service.runner import reconciler as reconciler_module
from service.runner import worker as worker_module
from service.runner.engine import Engine
from storage import Storage
from storage.errors import NotCancellable
from storage.new_runs import Created
from storage.tables import Run
from tests.runs.test_attempts import PAST
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.script import Answer, Hold
from tests.support.sequences import COMPLETED, PLAIN, QUEUED, SPEAKING
from tests.support.storage.rows import PROJECT, get_run, make_thread, new_run, set_run, user
from tests.support.waiting import SECONDS, until

MANY = 12


async def create(
    storage: Storage, model: str, claim: bool, text: str = "Hi", lifetime: int = 600
) -> Created:
    """Creates a run on a new thread with a message."""
    thread = await make_thread(storage, text)
    new = new_run(model=model, lifetime=lifetime)
    return await storage.runs.create(PROJECT, thread.id, new, [], claim=claim)


async def test_it_is_cancelled(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", 0.02)
    hold = Hold(Answer("Never"))
    engine = engines.start()

    async def cancelled(claim: bool) -> Created:
        created = await create(storage, models.script(hold), claim)
        assert created.claim is not None
        await storage.runs.cancel(PROJECT, created.run.thread_id, created.run.id)
        return created

    run, first = await engine.start(cancelled)
    following = Following(run, engine.streams.follow(run, first))
    assert await following.ended() == [*QUEUED, "thread.run.cancelled", "done"]
    assert (await get_run(storage, run)).status == "cancelled"
    with pytest.raises(NotCancellable):
        await storage.runs.cancel(PROJECT, run.thread_id, run.id)


async def test_it_expires(storage: Storage, engines: Engines, models: ModelServer) -> None:
    hold = Hold(Answer("Never"))
    engine, model = engines.start(), models.script(hold)
    run, first = await engine.start(lambda claim: create(storage, model, claim, lifetime=1))
    following = Following(run, engine.streams.follow(run, first))
    assert await following.ended() == [*QUEUED, "thread.run.expired", "done"]
    await until(hold.disconnected.is_set)


async def test_its_thread_is_deleted(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", 0.02)
    hold = Hold(Answer("Never"))
    engine = engines.start()

    async def deleted(claim: bool) -> Created:
        created = await create(storage, models.script(hold), claim)
        await storage.threads.delete(PROJECT, created.run.thread_id)
        return created

    await engine.start(deleted)
    # A server that drains notices it, too.
    async with asyncio.timeout(SECONDS / 2):
        await engines.drain(engine, SECONDS)


async def test_a_server_that_stops_gives_it_back(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """Between its creation and its beginning."""
    model = models.script(Answer("Hello"))
    engine = engines.start()
    draining: list[asyncio.Task[None]] = []

    async def drained(claim: bool) -> Created:
        created = await create(storage, model, claim)
        assert created.claim is not None
        draining.append(asyncio.create_task(engines.drain(engine, 0)))
        # Until the drain has looked at what there is to release.
        await asyncio.sleep(0.05)
        assert not draining[0].done()
        return created

    run, _ = await engine.start(drained)
    async with asyncio.timeout(SECONDS):
        await draining[0]
    now = await get_run(storage, run)
    assert (now.status, now.lease_until) == ("in_progress", 0)
    assert models.requests(model) == []
    other = engines.start()
    following = Following(run, other.streams.follow(run, 1))
    assert await following.ended() == [QUEUED[-1], *SPEAKING, *COMPLETED]


async def test_a_server_that_stops_claims_nothing(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine, model = engines.start(), models.script(Answer("Hello"))
    await engines.drain(engine, 0)
    run, _ = await engine.start(lambda claim: create(storage, model, claim))
    assert (await get_run(storage, run)).status == "queued"


async def test_a_server_dies(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the creation and the beginning: the run is taken up when its lease has run out."""
    monkeypatch.setattr(reconciler_module, "PERIOD", 0.05)
    run = (await create(storage, models.script(Answer("Hello")), claim=True)).run
    engine = engines.start()
    following = Following(run, engine.streams.follow(run, 1))
    await set_run(storage, run, lease_until=PAST)
    assert await following.ended() == PLAIN[2:]
    now = await get_run(storage, run)
    assert (now.status, now.attempt) == ("completed", 2)


async def test_runs_do_not_overtake_each_other(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """Runs of one assistant begin in the order of their creation, queued or claimed at once."""
    first, second = Hold(Answer("Hello")), Hold(Answer("Hello"))
    model = models.script(first, second, *[Answer("Hello") for _ in range(2 * MANY)])
    engine = engines.start(concurrency=1)
    runs: list[Run] = []

    async def begin_next() -> None:
        text = str(len(runs))
        run, _ = await engine.start(lambda claim: create(storage, model, claim, text))
        runs.append(run)

    await begin_next()
    await until(first.held.is_set)
    for _ in range(MANY):
        await begin_next()
    # They wait, and were not claimed.
    assert {(await get_run(storage, run)).attempt for run in runs[1:]} == {0}
    first.release()
    await until(second.held.is_set)
    second.release()
    # While they are worked off.
    for _ in range(MANY):
        await begin_next()
    for run in runs:
        await ended(storage, run)
    asked = [request["messages"][-1]["content"] for request in models.requests(model)]
    assert asked == [str(number) for number in range(2 * MANY + 1)]


async def test_all_free_workers_are_used(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start(concurrency=3)
    holds = [Hold(Answer("Hello")) for _ in range(4)]
    runs = [await begin(storage, engine, models.script(hold)) for hold in holds]
    for hold in holds[:3]:
        await until(hold.held.is_set)
    assert [(await get_run(storage, run)).attempt for run in runs] == [1, 1, 1, 0]
    assert not holds[3].started.is_set()
    for hold in holds:
        hold.release()
    for run in runs:
        await ended(storage, run)


async def test_a_slot_of_a_run_that_was_refused_is_free_again(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start(concurrency=1)

    async def refused(claim: bool) -> Created:
        raise NotCancellable("none")

    for _ in range(2):
        with contextlib.suppress(NotCancellable):
            await engine.start(refused)
    model = models.script(Answer("Hello"))
    run, first = await engine.start(lambda claim: create(storage, model, claim))
    assert (await get_run(storage, run)).attempt == 1
    assert await Following(run, engine.streams.follow(run, first)).ended() == PLAIN


async def test_a_run_behind_another_is_not_claimed(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    hold = Hold(Answer("One"))
    engine = engines.start()
    one = await engines.run(engine, models.script(hold))
    new = new_run(model=models.script(Answer("Two")))
    run, first = await engine.start(
        lambda claim: storage.runs.create(
            PROJECT, one.run.thread_id, new, [user("And")], queue=True, claim=claim
        )
    )
    following = Following(run, engine.streams.follow(run, first))
    assert (run.waiting, (await get_run(storage, run)).attempt) == (True, 0)
    hold.release()
    assert await following.ended() == PLAIN
    assert [text for _, _, text in await engines.texts(run)] == ["Hi", "And", "One", "Two"]


async def begin(storage: Storage, engine: Engine, model: str) -> Run:
    """Starts a run, which nobody follows."""
    run, _ = await engine.start(lambda claim: create(storage, model, claim))
    return run


async def ended(storage: Storage, run: Run) -> None:
    """Waits until the run is completed."""
    async with asyncio.timeout(SECONDS):
        while (await get_run(storage, run)).status != "completed":
            await asyncio.sleep(0.02)
