"""Engines under callers, models and accidents in any order: what their streams show.

On one engine, every stream is whole. On several, each of which has a bus of its own,
none receives everything, but what it shows is true and comes to an end.
"""

import pytest

from service.runner import reconciler as reconciler_module
from service.runner import worker as worker_module
from service.runner.events import streams as streams_module
from storage import Storage
from tests.support.model_server import ModelServer
from tests.support.runs.engines import NEVER, Engines
from tests.support.runs.grammar import allows
from tests.support.runs.reading import whole
from tests.support.runs.schedule import PAST, Life, Schedule
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.script import Answer, Hold
from tests.support.storage.rows import get_run, set_run
from tests.support.waiting import until

SEEDS = range(6)
MOVES = 25


@pytest.fixture(autouse=True)
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens every second happens often."""
    monkeypatch.setattr(reconciler_module, "PERIOD", 0.02)
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", 0.05)


@pytest.mark.parametrize("seed", SEEDS)
async def test_streams_of_one_engine_are_complete(
    storage: Storage, engines: Engines, models: ModelServer, seed: int
) -> None:
    schedule = Schedule(engines, models, seed, several=False)
    await schedule.play(MOVES)
    for life in schedule.lives:
        await _check(storage, life, "deleted" if life.deleted else "whole")
        if not life.deleted:
            await _check_end(storage, schedule, life)


@pytest.mark.parametrize("seed", SEEDS)
async def test_streams_of_several_engines_agree_with_the_database(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "SILENCE", 0.05)
    schedule = Schedule(engines, models, seed, several=True)
    await schedule.play(MOVES)
    for life in schedule.lives:
        await _check(storage, life, "interrupted")


async def test_a_worker_that_was_stuck_says_nothing_after_the_end_of_its_run(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would notice by itself, a little later.
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", NEVER)
    held = Hold(Answer("Hello there"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    await set_run(storage, following.run, lease_until=PAST, expires_at=PAST)
    assert (await following.ended())[-2:] == ["thread.run.expired", "done"]
    await until(held.disconnected.is_set)
    last = following.events[-1]
    now = await get_run(storage, following.run)
    assert await whole(await engine.streams.replay(now, last.sequence_number)) == [last]


async def _check(storage: Storage, life: Life, rule: str) -> None:
    for stream in life.streams:
        names = [event.event for event in stream.events]
        assert allows(rule, names), " ".join(names)
        check_stream(stream.events, interrupted=rule == "interrupted")
    if rule != "interrupted":
        for one, other in life.twins:
            assert one.events == other.events
    if not life.deleted:
        await check_stored(storage, life.run, [stream.events for stream in life.streams])


async def _check_end(storage: Storage, schedule: Schedule, life: Life) -> None:
    """Nothing follows the end of a run."""
    last = life.streams[-1].events[-1]
    rest = await schedule.replayed(life, last.sequence_number)
    if rest != [last]:
        # It has ended while it waited for outputs, and nobody followed it.
        assert allows("afterwards", [event.event for event in rest])
        await check_stored(storage, life.run, [rest])
        last = rest[-1]
        assert await schedule.replayed(life, last.sequence_number) == [last]
