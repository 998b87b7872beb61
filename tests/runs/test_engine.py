"""Workers and the reconciler: how many at once, what is picked up, what expires, how it ends."""

import asyncio
import contextlib

import pytest

from service.models.client import ChatModel
from service.runner import reconciler as reconciler_module
from service.runner.events.memory import MemoryBus
from service.runner.events.publisher import Publisher
from service.runner.limits import Limits
from service.runner.queue.memory import MemoryQueue
from service.runner.reconciler import Reconciler
from service.runner.tools.registry import Registry
from service.runner.worker import Worker
from storage import Storage
from storage.tables import RunStatus
from tests.runs.test_attempts import BEGUN, PAST
from tests.support.model_server import ModelServer
from tests.support.runs.engines import NEVER, Engines, Following
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import COMPLETED
from tests.support.storage.rows import (
    claimed,
    get_run,
    holding,
    make_run,
    make_thread,
    set_run,
    start_message,
)
from tests.support.waiting import until


async def test_no_more_runs_at_once_than_allowed(engines: Engines, models: ModelServer) -> None:
    held = [Hold(Answer("Hello")) for _ in range(4)]
    engine = engines.start(concurrency=2)
    runs = [await engines.run(engine, models.script(each)) for each in held]
    for at, each in enumerate(held):
        await until(each.held.is_set)
        # As many as may be are at work: what comes behind them has not begun.
        await until((held[at + 1] if at % 2 == 0 else each).held.is_set)
        begun = [other.held.is_set() for other in held]
        assert begun.count(True) - at <= 2, begun
        each.release()
        await runs[at].ended()
    for following in runs:
        assert following.names[-2:] == ["thread.run.completed", "done"]


async def test_a_run_that_was_lost_on_its_way_is_picked_up(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """As after a crash: queued in the database, and in no queue."""
    run = await make_run(
        storage, await make_thread(storage, "Hi"), model=models.script(Answer("Hello"))
    )
    engine = engines.start()
    following = Following(run, engine.streams.follow(run, 1))
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]


async def test_what_a_dead_worker_left_is_withdrawn(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    run = await make_run(
        storage, await make_thread(storage, "Hi"), model=models.script(Answer("Hello"))
    )
    step, message = await start_message(storage, await claimed(storage, run))
    await set_run(storage, run, lease_until=PAST)
    engine = engines.start()
    following = Following(run, engine.streams.follow(run, 1))
    withdrawn = ["thread.message.incomplete", "thread.run.step.failed"]
    assert await following.ended() == [*withdrawn, *BEGUN[2:], *COMPLETED]
    assert (following.events[0].message.id, following.events[1].run_step.id) == (
        message.id,
        step.id,
    )
    assert following.events[0].sequence_number > 2 << 20
    assert [text for _, _, text in await engines.texts(run)] == ["Hi", "Hello"]
    assert step.id not in [each.id for each in await engines.steps(run)]


async def test_a_run_expires_while_the_model_answers(engines: Engines, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    following = await engines.run(engines.start(), models.script(held), lifetime=2)
    assert await following.ended() == [
        *BEGUN,
        "thread.message.incomplete",
        "thread.run.step.expired",
        "thread.run.expired",
        "done",
    ]
    await until(held.disconnected.is_set)
    assert (await engines.texts(following.run))[1:] == [("assistant", "incomplete", "Hello")]


@pytest.mark.parametrize("status", ["queued", "requires_action", "cancelling"])
async def test_the_reconciler_expires_and_cancels_what_nobody_holds(
    storage: Storage, engines: Engines, status: str
) -> None:
    run = await make_run(storage, await make_thread(storage))
    cancelling = status == RunStatus.cancelling
    await set_run(storage, run, status=status, **({} if cancelling else {"expires_at": 1}))
    engine = engines.start()
    following = Following(run, engine.streams.follow(run, 1))
    end = "thread.run.cancelled" if cancelling else "thread.run.expired"
    assert await following.ended() == [end, "done"]


async def test_the_reconciler_outlives_a_database_that_is_away(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, engines: Engines
) -> None:
    monkeypatch.setattr(reconciler_module, "PERIOD", 0.01)
    run = await make_run(storage, await make_thread(storage))
    await set_run(storage, run, status=RunStatus.cancelling)
    await engines.rename("runs", "hidden")
    reconciler = Reconciler(storage.stale_runs, MemoryQueue(), Publisher(MemoryBus()).publish_end)
    with pytest.raises(Exception, match="runs"):
        await reconciler.round(0)
    task = asyncio.create_task(reconciler.reconcile())
    await engines.rename("hidden", "runs")
    while (await get_run(storage, run)).status != RunStatus.cancelled:
        assert not task.done()
        await asyncio.sleep(0.01)
    # At the same time: it ends all the same.
    reconciler.wake()
    task.cancel()
    await asyncio.wait([task], timeout=60)
    assert task.cancelled()


async def test_a_drain_releases_what_does_not_end(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held, Answer("Again")))
    await following.received("Hello")
    await engines.drain(engine, 0)
    await until(held.disconnected.is_set)
    withdrawn = ["thread.message.incomplete", "thread.run.step.failed"]
    assert await following.ended() == [*BEGUN, *withdrawn, "error"]
    assert following.events[-1].error.message == "The server is shutting down."
    run = await get_run(storage, following.run)
    assert (run.status, run.lease_until) == ("in_progress", 0)
    again = Following(run, engines.start().streams.follow(run, 1))
    assert (await again.ended())[-2:] == ["thread.run.completed", "done"]
    assert [text for _, _, text in await engines.texts(run)] == ["Hi", "Again"]


async def test_a_drain_lets_runs_end(engines: Engines, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    draining = asyncio.create_task(engines.drain(engine, 60))
    held.release()
    await draining
    assert await following.ended() == [*BEGUN, *COMPLETED]


class WatchedQueue(MemoryQueue):
    """Sets an event when a run is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Event()

    async def take(self) -> str | None:
        run_id = await super().take()
        self.taken.set()
        return run_id


async def test_a_run_that_is_claimed_during_the_drain_is_released(
    storage: Storage, models: ModelServer, chat_model: ChatModel
) -> None:
    thread = await make_thread(storage, "Hi")
    # It would hold for ever.
    run = await make_run(storage, thread, model=models.script(Hold(Answer("Hello"))))
    queue = WatchedQueue()
    worker = Worker(
        storage.claims,
        queue,
        Publisher(MemoryBus()),
        chat_model,
        Registry(),
        concurrency=1,
        limits=Limits(NEVER, model_retries=0),
    )
    working = asyncio.create_task(worker.work())
    async with holding(storage, thread.id):
        await queue.put(run.id, 0, run.assistant_id)
        await queue.taken.wait()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        draining = asyncio.create_task(worker.drain(0))
        # Until the drain has looked at what there is to release.
        await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        await draining
    now = await get_run(storage, run)
    assert (now.status, now.lease_until) == ("in_progress", 0)


async def test_numbers_increase_over_restarts(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """Each engine has a bus of its own, as a server has that was started again."""
    tools = [{"type": "function", "function": {"name": "f", "strict": False}}]
    model = models.script(Calls(("f", {})), Answer("Hello"))
    run = await make_run(storage, await make_thread(storage, "Hi"), model=model, tools=tools)
    first = engines.start()
    before = Following(run, first.streams.follow(run, 1))
    assert (await before.ended())[-2:] == ["thread.run.requires_action", "done"]
    await engines.drain(first, 60)
    call_id = before.events[-2].run.required_action.submit_tool_outputs.tool_calls[0].id
    second = engines.start()
    queued, first_number = await engines.submit(second, run, (call_id, "1"))
    after = Following(queued, second.streams.follow(queued, first_number))
    assert (await after.ended())[0] == "thread.run.step.completed"
    assert after.events[0].sequence_number > before.events[-1].sequence_number
    assert after.names[-2:] == ["thread.run.completed", "done"]
