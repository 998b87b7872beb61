"""Silent followers: they ask together for the statuses of their runs, and end with them."""

import asyncio
import threading
import time

import pytest

from service.runner.events import streams as streams_module
from storage import Storage
from storage.tables import Run, RunStatus
from tests.support.runs.engines import NEVER, Engines, Following
from tests.support.storage.recording import transactions
from tests.support.storage.rows import DATABASE_ERRORS, PROJECT, make_run, make_thread, set_run
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers ask soon."""
    monkeypatch.setattr(streams_module, "SILENCE", 0.1)


async def make_silent(storage: Storage) -> Run:
    """Inserts a run that another server works on: nothing is published here."""
    run = await make_run(storage, await make_thread(storage))
    await set_run(storage, run, status=RunStatus.in_progress, lease_until=time.time() + NEVER)
    return run


async def end(storage: Storage, run: Run) -> None:
    """Ends a run without publishing it."""
    await set_run(storage, run, status=RunStatus.completed, lease_until=None, expires_at=None)


async def test_many_cost_few_queries(storage: Storage, engines: Engines) -> None:
    runs = [await make_silent(storage) for _ in range(50)]
    ids = {run.id for run in runs}
    engine = engines.start()
    with transactions() as ended:

        def asked() -> list[set[str]]:
            """Which of the runs each query was about."""
            executed = [given for each in list(ended) for _, given in each.statements]
            lists = [given["ids"] for given in executed if "ids" in given]
            return [found for each in lists if (found := ids & {*each})]

        followers = [
            Following(run, engine.streams.follow(run, 1)) for run in runs for _ in range(3)
        ]
        await until(lambda: all(sum(run.id in each for each in asked()) > 3 for run in runs))
        queries = asked()
        assert set().union(*queries) == ids
        assert 4 * len(queries) < sum(map(len, queries)), list(map(len, queries))
    completed, deleted, *others = [followers[at : at + 3] for at in range(0, 150, 3)]
    await end(storage, runs[0])
    await storage.threads.delete(PROJECT, runs[1].thread_id)
    for following in completed:
        assert await following.ended() == ["thread.run.completed", "done"]
    for following in deleted:
        assert await following.ended() == ["error"]
        assert following.events[0].error.message == "The run was deleted."
    assert [following.events for each in others for following in each] == [[]] * 48 * 3


async def test_callers_that_go_away_do_not_disturb_others(
    storage: Storage, engines: Engines
) -> None:
    runs = [await make_silent(storage) for _ in range(2)]
    engine = engines.start()
    staying = [Following(run, engine.streams.follow(run, 1)) for run in runs]
    leaving = [Following(run, engine.streams.follow(run, 1)) for run in runs]
    free = threading.Event()
    # All connections that there are: a query has to wait.
    busy = [
        asyncio.create_task(storage.database.read(lambda _: free.wait(60), PROJECT))
        for _ in range(10)
    ]
    # Until they have asked.
    await asyncio.sleep(0.5)
    for following in leaving:
        await following.leave()
    free.set()
    await asyncio.gather(*busy)
    for run in runs:
        await end(storage, run)
    for following in staying:
        assert await following.ended() == ["thread.run.completed", "done"]


async def test_all_get_an_error(storage: Storage, engines: Engines) -> None:
    run, other = [await make_silent(storage) for _ in range(2)]
    engine = engines.start()
    followers = [Following(each, engine.streams.follow(each, 1)) for each in (run, run, other)]
    await engines.rename("runs", "hidden")
    for following in followers:
        with pytest.raises(DATABASE_ERRORS, match="runs"):
            await following.ended()
    await engines.rename("hidden", "runs")
    following = Following(run, engine.streams.follow(run, 1))
    await end(storage, run)
    assert await following.ended() == ["thread.run.completed", "done"]
