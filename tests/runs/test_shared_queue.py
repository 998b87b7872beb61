"""The queue that several servers share: each run to one of them, whatever becomes of the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.runner import jetstream as jetstream_module
from service.runner.queue import groups as groups_module
from service.runner.queue import jetstream as queue_module
from service.runner.queue.queue import QueueClosed, RunQueue
from tests.support.contract.adapters import JetStreams, take_run
from tests.support.nats import Nats, cluster


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server that a test may kill."""
    server = Nats(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def jetstreams(own_nats: Nats, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JetStreams]:
    """Opens queues, whose runs are delivered again and put again soon."""
    monkeypatch.setattr(queue_module, "HOLD_SECONDS", 0.5)
    monkeypatch.setattr(queue_module, "PUT_SECONDS", 0.0)
    async with contextlib.aclosing(JetStreams(own_nats)) as jetstreams:
        yield jetstreams


async def test_each_run_goes_to_one(jetstreams: JetStreams) -> None:
    await each_goes_to_one(jetstreams)


async def test_each_run_goes_to_one_in_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that is slow is not away: each server would have its own.
    monkeypatch.setattr(jetstream_module, "ANSWER_SECONDS", 60)
    with cluster(tmp_path) as three:
        async with contextlib.aclosing(JetStreams(*three)) as jetstreams:
            await each_goes_to_one(jetstreams)


async def each_goes_to_one(jetstreams: JetStreams) -> None:
    one, other = await jetstreams.queue(), await jetstreams.queue()
    taken = list[tuple[RunQueue, str]]()

    async def take(queue: RunQueue) -> None:
        with contextlib.suppress(QueueClosed):
            while True:
                run_id = await take_run(queue)
                await queue.acknowledge(run_id)
                taken.append((queue, run_id))

    takers = [asyncio.create_task(take(queue)) for queue in (one, other) for _ in range(3)]
    runs = [f"run_{number}" for number in range(60)]
    for number, run_id in enumerate(runs):
        # Both put each, as the reconcilers of two servers do.
        await asyncio.gather(
            *(queue.put(run_id, 1, f"asst_{number % 7}") for queue in (one, other))
        )
    async with asyncio.timeout(60):
        while len(taken) < 60:
            await asyncio.sleep(0.02)
    for queue in (one, other):
        await queue.close()
    await asyncio.gather(*takers)
    assert sorted(run_id for _, run_id in taken) == sorted(runs)


async def test_what_is_held_is_not_delivered_again(jetstreams: JetStreams) -> None:
    one, other = await jetstreams.queue(), await jetstreams.queue()
    await one.put("a", 1, "asst")
    assert await take_run(one) == "a"
    for _ in range(20):
        # Twice as long as a hold lasts.
        await asyncio.sleep(0.05)
        await other.put("a", 1, "asst")
        assert await other.take() is None
    await other.put("a", 2, "asst")
    assert await take_run(other) == "a"


async def test_what_a_dead_server_has_taken_goes_to_another(jetstreams: JetStreams) -> None:
    dead = await jetstreams.queue()
    await dead.put("a", 1, "asst")
    assert await take_run(dead) == "a"
    await jetstreams.cut(dead)
    living = await jetstreams.queue()
    async with asyncio.timeout(60):
        while (run_id := await living.take()) is None:
            await living.put("a", 1, "asst")
            await asyncio.sleep(0.05)
    assert run_id == "a"


async def test_a_run_that_comes_after_it_was_heard_of(
    jetstreams: JetStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may in a cluster, and where a server is slow to tell its consumers what it has."""
    monkeypatch.setattr(groups_module, "AGAIN_SECONDS", 3)
    queue = await jetstreams.queue()
    nats = jetstreams.connection(queue)
    await nats.tell(f"{nats.prefix}.waiting", b"server_1 asst")
    async with asyncio.timeout(60):
        await queue.ready()
        assert await queue.take() is None
        await nats.publish(f"{nats.prefix}.runs.asst.run_1.1", b"run_1")
        assert await take_run(queue) == "run_1"


async def test_a_take_that_is_cancelled_anywhere_takes_none(jetstreams: JetStreams) -> None:
    one, other = await jetstreams.queue(), await jetstreams.queue()
    await one.put("a", 1, "asst")
    for turns in range(8):
        taking = asyncio.ensure_future(one.take())
        for _ in range(turns):
            await asyncio.sleep(0)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await taking is None
    async with asyncio.timeout(60):
        assert await take_run(other) == "a"


async def test_each_run_goes_to_the_server_that_is_to_have_it_first(
    jetstreams: JetStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "FIRST_SECONDS", 600.0)
    queues = {name: await jetstreams.queue(name) for name in ("one", "other")}
    for number in range(20):
        await queues["one"].put(f"{number}", 1, "asst", server="other")
    async with asyncio.timeout(60):
        taken = {await take_run(queues["other"]) for _ in range(20)}
    assert taken == {f"{number}" for number in range(20)}
    assert queues["one"].empty


async def test_runs_that_were_a_dead_servers_first(jetstreams: JetStreams) -> None:
    dead, living = await jetstreams.queue("dead"), await jetstreams.queue("living")
    runs = [f"{number}" for number in range(3)]
    for run_id in runs:
        await living.put(run_id, 1, "asst", server="dead")
    assert await take_run(dead) in runs
    await jetstreams.cut(dead)
    async with asyncio.timeout(60):
        taken = set[str]()
        while taken < set(runs):
            taken.add(await take_run(living))


@pytest.mark.parametrize("with_store", [True, False])
async def test_without_nats_a_server_has_its_own(
    jetstreams: JetStreams, own_nats: Nats, with_store: bool
) -> None:
    one, other = await jetstreams.queue(), await jetstreams.queue()
    await one.put("stored", 1, "asst")
    own_nats.kill()
    await one.put("a", 1, "asst")
    async with asyncio.timeout(60):
        assert await take_run(one) == "a"
    if not with_store:
        own_nats.forget()
    own_nats.start()
    # What was lost is put again by whoever misses it.
    async with asyncio.timeout(60):
        while (run_id := await other.take()) is None:
            if not with_store:
                await one.put("stored", 1, "asst")
            await asyncio.sleep(0.05)
    assert run_id == "stored"
