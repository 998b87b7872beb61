"""The queue: oldest first, at least once, no run twice while it waits, and groups in turn."""

import asyncio

from service.runner.queue.queue import InProcessQueue


async def test_oldest_first_and_each_once() -> None:
    queue = InProcessQueue()
    for run_id in ("a", "b", "a", "c", "b"):
        await queue.put(run_id, "asst")
    assert [await queue.take() for _ in range(3)] == ["a", "b", "c"]
    await queue.put("a", "asst")
    assert await queue.take() == "a"


async def test_a_taken_run_may_be_put_again_before_it_is_acknowledged() -> None:
    queue = InProcessQueue()
    await queue.put("a", "asst")
    assert await queue.take() == "a"
    await queue.put("a", "asst")
    await queue.acknowledge("a")
    assert await queue.take() == "a"


async def test_takers_wait_and_get_one_each() -> None:
    queue = InProcessQueue()
    takers = [asyncio.ensure_future(queue.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for run_id in "abc":
        await queue.put(run_id, "asst")
    assert sorted(await asyncio.gather(*takers)) == ["a", "b", "c"]


async def test_a_taker_that_gives_up_loses_nothing() -> None:
    queue = InProcessQueue()
    first, second = (asyncio.ensure_future(queue.take()) for _ in range(2))
    await asyncio.sleep(0)
    await queue.put("a", "asst")
    # Woken already, but not run yet.
    first.cancel()
    async with asyncio.timeout(60):
        assert await second == "a"
    assert first.cancelled()


async def test_groups_take_turns() -> None:
    queue = InProcessQueue()
    for run_id in ("a1", "a2", "a3", "b1", "c1", "b2"):
        await queue.put(run_id, run_id[0])
    assert [await queue.take() for _ in range(3)] == ["a1", "b1", "c1"]
    await queue.put("d1", "d")
    assert [await queue.take() for _ in range(4)] == ["a2", "b2", "d1", "a3"]
