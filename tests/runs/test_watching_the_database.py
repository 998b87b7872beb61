"""What a worker notices of its runs in the database alone, without a message."""

import pytest

from service.runner import worker as worker_module
from storage.tables import RunStatus
from tests.runs.test_attempts import BEGUN
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines
from tests.support.script import Answer, Hold
from tests.support.storage.rows import PROJECT, get_run, set_run
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look soon. These engines renew no leases."""
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", 0.02)


async def test_a_run_that_is_cancelled_elsewhere(engines: Engines, models: ModelServer) -> None:
    held, other = Hold(Answer("Hello there"), after="Hello"), Hold(Answer("Bye"))
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    untouched = await engines.run(engine, models.script(other))
    await following.received("Hello")
    await until(other.held.is_set)
    run = following.run
    await engines.storage.runs.cancel(PROJECT, run.thread_id, run.id)
    await until(held.disconnected.is_set)
    assert await following.ended() == [
        *BEGUN,
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    assert not other.disconnected.is_set()
    other.release()
    assert (await untouched.ended())[-2:] == ["thread.run.completed", "done"]


@pytest.mark.parametrize(
    "columns", [{"attempt": 2}, {"status": RunStatus.completed, "expires_at": None}], ids=str
)
async def test_a_run_that_is_lost(
    engines: Engines, models: ModelServer, columns: dict[str, object]
) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    await set_run(engines.storage, following.run, **columns)
    await until(held.disconnected.is_set)
    await engines.drain(engine, 60)
    # It says and writes nothing more.
    assert await following.ended() == [*BEGUN, "error"]
    run = await get_run(engines.storage, following.run)
    assert {name: getattr(run, name) for name in columns} == columns


async def test_a_deleted_thread(engines: Engines, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    await engines.storage.threads.delete(PROJECT, following.run.thread_id)
    await until(held.disconnected.is_set)


async def test_a_database_that_is_away(engines: Engines, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    await engines.rename("runs", "hidden")
    with pytest.raises(Exception, match="runs"):
        await get_run(engines.storage, following.run)
    await engines.rename("hidden", "runs")
    run = following.run
    await engines.storage.runs.cancel(PROJECT, run.thread_id, run.id)
    await until(held.disconnected.is_set)
    assert (await following.ended())[-2:] == ["thread.run.cancelled", "done"]
