"""What every adapter of RunQueue does: oldest first, at least once, groups in turn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from service.runner.queue.queue import QueueClosed, RunQueue
from tests.support.contract.adapters import JetStreams, Queues, open_memory_queue, take_run


@pytest.fixture(params=["memory", "jetstream"])
async def queues(request: pytest.FixtureRequest) -> AsyncIterator[Queues]:
    """Each adapter."""
    if request.param == "memory":
        yield Queues(open_memory_queue, outlives_servers=False)
        return
    async with contextlib.aclosing(JetStreams(request.getfixturevalue("nats"))) as jetstreams:
        yield Queues(jetstreams.queue, outlives_servers=True)


@pytest.fixture
async def queue(queues: Queues) -> RunQueue:
    """A queue of each adapter."""
    return await queues.open()


async def test_oldest_first_and_each_once(queue: RunQueue) -> None:
    for run_id in ("a", "b", "a", "c", "b"):
        await queue.put(run_id, 0, "asst")
    assert [await take_run(queue) for _ in range(3)] == ["a", "b", "c"]
    await queue.put("a", 1, "asst")
    assert await take_run(queue) == "a"


async def test_whether_a_run_waits(queue: RunQueue) -> None:
    assert queue.empty
    ready = asyncio.ensure_future(queue.ready())
    await asyncio.sleep(0)
    assert not ready.done()
    await queue.put("a", 0, "asst")
    await ready
    assert not queue.empty
    # It says that there is one, and takes none.
    await queue.ready()
    assert await take_run(queue) == "a"
    assert queue.empty


async def test_a_taken_run_may_be_put_again_before_it_is_acknowledged(queue: RunQueue) -> None:
    await queue.put("a", 0, "asst")
    assert await take_run(queue) == "a"
    await queue.put("a", 1, "asst")
    await queue.acknowledge("a")
    assert await take_run(queue) == "a"


async def test_a_run_that_was_not_claimed_is_put_again_in_its_epoch(queue: RunQueue) -> None:
    for _ in range(3):
        await queue.put("a", 0, "asst")
        assert await take_run(queue) == "a"
        await queue.acknowledge("a")


async def test_takers_wait_and_get_one_each(queue: RunQueue) -> None:
    takers = [asyncio.ensure_future(take_run(queue)) for _ in range(3)]
    await asyncio.sleep(0)
    for run_id in "abc":
        await queue.put(run_id, 0, "asst")
    assert sorted(await asyncio.gather(*takers)) == ["a", "b", "c"]


async def test_a_taker_that_gives_up_loses_nothing(queue: RunQueue) -> None:
    first, second = (asyncio.ensure_future(take_run(queue)) for _ in range(2))
    await asyncio.sleep(0)
    await queue.put("a", 0, "asst")
    # Woken already, but not run yet.
    first.cancel()
    async with asyncio.timeout(60):
        assert await second == "a"
    assert first.cancelled()


async def test_groups_take_turns(queue: RunQueue) -> None:
    for run_id in ("a1", "a2", "a3", "b1", "c1", "b2"):
        await queue.put(run_id, 0, run_id[0])
    assert [await take_run(queue) for _ in range(3)] == ["a1", "b1", "c1"]
    await queue.put("d1", 0, "d")
    assert [await take_run(queue) for _ in range(4)] == ["a2", "b2", "d1", "a3"]


async def test_a_run_that_is_this_servers_first(queues: Queues) -> None:
    queue = await queues.open("one")
    await queue.put("a", 0, "asst", server="one")
    await queue.put("b", 0, "asst")
    assert sorted([await take_run(queue) for _ in range(2)]) == ["a", "b"]


async def test_a_run_that_is_first_of_a_server_which_does_not_come(queues: Queues) -> None:
    queue = await queues.open("one")
    await queue.put("a", 0, "asst", server="gone")
    assert queue.empty
    await queue.put("b", 0, "asst")
    assert [await take_run(queue) for _ in range(2)] == ["b", "a"]


async def test_what_a_server_leaves(queues: Queues) -> None:
    """What it took without acknowledging it goes to the next one, if the queue outlives it."""
    server = await queues.open()
    for run_id in ("a", "b", "c"):
        await server.put(run_id, 0, "asst")
    assert [await take_run(server) for _ in range(2)] == ["a", "b"]
    await server.acknowledge("a")
    await server.close()
    following = await queues.open()
    if queues.outlives_servers:
        assert sorted([await take_run(following) for _ in range(2)]) == ["b", "c"]
    assert following.empty


async def test_a_server_that_takes_none_remembers_none(queues: Queues) -> None:
    giving, taking = await queues.open(takes=False), await queues.open()
    for number in range(3):
        await giving.put(f"run_{number}", 0, f"asst_{number}")
    if queues.outlives_servers:
        assert sorted([await take_run(taking) for _ in range(3)]) == ["run_0", "run_1", "run_2"]
    await taking.put("other", 0, "asst")
    assert await take_run(taking) == "other"
    assert giving.empty
    assert await giving.take() is None


async def test_closing_wakes_those_who_wait(queue: RunQueue) -> None:
    waiting = [asyncio.ensure_future(each) for each in (queue.ready(), take_run(queue))]
    await asyncio.sleep(0)
    await queue.close()
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in ended] == [QueueClosed] * 2


async def test_a_closed_queue_gives_no_run_and_still_accepts_runs(
    queue: RunQueue,
) -> None:
    await queue.put("a", 0, "asst")
    await queue.close()
    await queue.put("b", 0, "asst")
    for taking in (queue.ready(), queue.take()):
        with pytest.raises(QueueClosed):
            await taking
    await queue.acknowledge("a")
