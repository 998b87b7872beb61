"""Streams as the transports read them: what is ready comes together, and silence is no event."""

import asyncio
from typing import Any

import pytest

from service.runner.events import build
from service.runner.events.bus import PORTION
from service.runner.events.follower import Follower
from service.runner.events.memory import MemoryBus
from service.runner.events.resync import Resync
from service.runner.events.status_batcher import StatusBatcher
from service.runner.events.streams import DisconnectHook, FixedStream
from service.runner.events.transcript import Transcript
from service.types.events import Event
from storage import Storage
from tests.support.runs.engines import NEVER
from tests.support.storage.rows import make_run, make_thread

Followed = tuple[Follower, MemoryBus, str]


@pytest.fixture
async def followed(storage: Storage) -> Followed:
    """A follower of a run that nobody executes, its bus, and the run's id."""
    bus = MemoryBus()
    run = await make_run(storage, await make_thread(storage))
    status_batcher = StatusBatcher(storage.runs, 0.01)
    follower = Follower(run, 1, Transcript(), bus, Resync(storage, bus), status_batcher, NEVER)
    return follower, bus, run.id


def pieces(count: int) -> list[Event]:
    return [build.text_delta("msg_1", 0, str(number), first=False) for number in range(count)]


async def test_what_is_ready_comes_together(followed: Followed) -> None:
    follower, bus, run_id = followed
    published = pieces(PORTION + 5)
    await bus.publish(run_id, 0, *published)
    assert await follower.take() == published[:PORTION]
    assert await follower.take() == published[PORTION:]


async def test_what_follows_the_end_belongs_to_another_stream(followed: Followed) -> None:
    follower, bus, run_id = followed
    published = [*pieces(2), build.done()]
    await bus.publish(run_id, 0, *published, *pieces(1))
    assert await follower.take() == published
    assert follower.ended


async def test_silence_is_no_event_and_loses_none(followed: Followed) -> None:
    follower, bus, run_id = followed
    assert await follower.take(0.01) == []
    upcoming = asyncio.ensure_future(follower.take(NEVER))
    await asyncio.sleep(0)
    published = pieces(1)
    await bus.publish(run_id, 0, *published)
    assert await upcoming == published
    assert await follower.take(0) == []
    assert not follower.ended


async def test_an_event_takes_no_task(followed: Followed) -> None:
    follower, bus, run_id = followed
    made = 0

    def count(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> Any:
        nonlocal made
        made += 1
        return asyncio.Task(work, loop=loop, **more)

    async def read() -> list[Event]:
        found: list[Event] = []
        while not follower.ended:
            found += await follower.take(NEVER)
        return found

    loop = asyncio.get_running_loop()
    reading = asyncio.ensure_future(read())
    loop.set_task_factory(count)
    published = [*pieces(200), build.done()]
    for event in published:
        await bus.publish(run_id, 0, event)
        await asyncio.sleep(0)
    assert await reading == published
    loop.set_task_factory(None)
    assert made == 0


class Broken(FixedStream):
    """A stream that its server breaks off."""

    async def take(self, seconds: float | None = None) -> list[Event]:
        raise OSError("broken")


async def test_a_reader_that_leaves_before_the_end_is_noticed() -> None:
    left = list[str]()
    early = DisconnectHook(FixedStream("run_1", build.done()), lambda: left.append("early"))
    await early.aclose()
    late = DisconnectHook(FixedStream("run_1", build.done()), lambda: left.append("late"))
    assert [event.name for event in await late.take()] == ["done"]
    assert late.ended
    await late.aclose()
    broken = DisconnectHook(Broken("run_1"), lambda: left.append("broken"))
    with pytest.raises(OSError, match="broken"):
        await broken.take()
    await broken.aclose()
    assert left == ["early"]
