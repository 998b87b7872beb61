"""Stops that are published: workers on the same bus need no look at the database."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from service.runner import worker as worker_module
from service.runner.events.bus import EventBus
from service.runner.events.memory import MemoryBus
from storage.tables import RunStatus
from tests.runs.test_attempts import BEGUN
from tests.support.contract.adapters import JetStreams
from tests.support.model_server import ModelServer
from tests.support.nats import Nats
from tests.support.runs.engines import NEVER, Engines
from tests.support.script import Answer, Hold
from tests.support.storage.rows import PROJECT, set_run
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def unwatchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers never look by themselves."""
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", NEVER)


@pytest.fixture(params=["one", "shared"])
async def buses(request: pytest.FixtureRequest) -> AsyncIterator[tuple[EventBus, EventBus]]:
    """The buses of two engines: one and the same, and two that share a NATS."""
    if request.param == "one":
        bus = MemoryBus()
        yield bus, bus
        return
    nats: Nats = request.getfixturevalue("nats")
    prefix = nats.prefix()
    async with contextlib.aclosing(JetStreams(nats)) as jetstreams:
        yield await jetstreams.bus(prefix=prefix), await jetstreams.bus(prefix=prefix)


async def test_a_cancelled_run_is_stopped_by_the_engine_that_executes_it(
    engines: Engines, models: ModelServer, buses: tuple[EventBus, EventBus]
) -> None:
    worker, other = (engines.start(bus=bus) for bus in buses)
    held, untouched = Hold(Answer("Hello there"), after="Hello"), Hold(Answer("Bye"))
    following = await engines.run(worker, models.script(held))
    staying = await engines.run(worker, models.script(untouched))
    await following.received("Hello")
    await until(untouched.held.is_set)
    run = following.run
    await other.announce(await engines.storage.runs.cancel(PROJECT, run.thread_id, run.id))
    await until(held.disconnected.is_set)
    assert await following.ended() == [
        *BEGUN,
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    untouched.release()
    assert (await staying.ended())[-2:] == ["thread.run.completed", "done"]


async def test_a_worker_publishes_nothing_after_another_has_ended_its_run(
    engines: Engines, models: ModelServer, buses: tuple[EventBus, EventBus]
) -> None:
    worker, other = (engines.start(bus=bus) for bus in buses)
    held = Hold(Answer("Hello there"), after="Hello")
    following = await engines.run(worker, models.script(held))
    await following.received("Hello")
    run = following.run
    await set_run(engines.storage, run, lease_until=0.0, expires_at=1)
    ended = await engines.storage.stale_runs.end(run.id, RunStatus.expired)
    if ended is not None:
        # Unless a reconciler was faster, which publishes the same.
        await other.announce(ended)
    await until(held.disconnected.is_set)
    # A server that stops ends its streams, whatever is on its way from others.
    assert (await following.ended())[len(BEGUN) :] == [
        "thread.message.incomplete",
        "thread.run.step.expired",
        "thread.run.expired",
        "done",
    ]
    await engines.drain(worker, 60)
    kept = await buses[1].kept(run.id)
    assert kept is not None
    assert kept.last == following.events[-1].sequence_number
