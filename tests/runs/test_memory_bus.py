"""What the bus in memory keeps of runs, how long, and what is left when it keeps nothing.

What it does as every bus is in tests/contract/test_event_bus.py.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from service.errors import EventsGone
from service.runner.events import build
from service.runner.events import log as log_module
from service.runner.events import memory as memory_module
from service.runner.events.bus import PORTION
from service.runner.events.log import size_of
from service.runner.events.memory import MemoryBus
from tests.support.contract.adapters import OTHER, RUN, named, refused, run_event, subscribe, take
from tests.support.hostile.processes import resident
from tests.support.waiting import counting_turns

FULL = size_of(*named("x" * 90))
"""Bytes of a log that has such an event: then there is no room for any other."""

TraceFunction = Callable[[FrameType, str, Any], Any]


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time


def set_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Has buses go by a clock that stands still."""
    clock = Clock()
    for module in (memory_module, log_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


async def test_events_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = set_clock(monkeypatch)
    bus = MemoryBus(keep_seconds=10)
    await bus.publish(RUN, 0, *named("a", "b"))
    await bus.publish("followed", 0, *named("a", "b"))
    async with contextlib.aclosing(subscribe(bus, "followed", 0)) as source:
        assert await take(source, 1) == ["a"]
        clock.time += 10
        await bus.publish(OTHER, 0, *named("x"))
        async with contextlib.aclosing(subscribe(bus, RUN, 0)) as late:
            assert await take(late, 2) == ["a", "b"]
        clock.time += 1
        await bus.publish(OTHER, 0, *named("y"))
        # Forgotten: the count begins with the attempt again. But not where somebody reads.
        assert await bus.publish(RUN, 2, *named("c")) > 2 << 20
        assert await take(source, 1) == ["b"]
        assert await bus.publish("followed", 2, *named("c")) == 3
    clock.time += 11
    await bus.publish(OTHER, 0, *named("z"))
    assert await bus.publish("followed", 3, *named("d")) > 3 << 20


@pytest.mark.parametrize("forgotten", ["by its age", "by its size"])
async def test_numbers_increase_within_an_attempt(
    forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = set_clock(monkeypatch)
    bus = MemoryBus(keep_seconds=10, max_bytes=FULL)
    last = await bus.publish(RUN, 1, *named("a", "b")) + 1
    for _ in range(2):
        if forgotten == "by its age":
            clock.time += 11
            await bus.publish(OTHER, 0, *named("x"))
        else:
            await bus.publish(OTHER, 0, *named("x" * 90))
        assert await bus.kept(RUN) == (last, last, False)
        # A reader that comes back late gets an error, and not just less.
        assert await refused(subscribe(bus, RUN, last - 1)) == EventsGone
        assert await bus.publish(RUN, 1, *named("c")) == last + 1
        last += 1


async def test_of_a_run_that_is_over_its_end_is_remembered_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = set_clock(monkeypatch)
    bus = MemoryBus(keep_seconds=10, max_bytes=FULL)
    await bus.publish(RUN, 0, run_event("completed"))
    await bus.publish(OTHER, 0, *named("x" * 90))
    assert await bus.kept(RUN) == (1, 1, True)
    # A reader that has nothing to wait for changes nothing.
    assert await refused(subscribe(bus, RUN, 0)) == EventsGone
    assert await bus.kept(RUN) == (1, 1, True)
    await bus.publish("old", 0, run_event("completed"))
    clock.time += 11
    await bus.publish(OTHER, 0, *named("x"))
    assert await bus.kept("old") is None


async def test_no_more_is_remembered_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_EMPTIED", 2)
    bus = MemoryBus(max_bytes=FULL)
    for number in range(4):
        await bus.publish(f"run_{number}", 1, *named("x" * 90))
    known = [number for number in range(4) if await bus.kept(f"run_{number}") is not None]
    assert known == [1, 2, 3]


async def steps_of_a_publish(bus: MemoryBus) -> int:
    """Returns how many lines the bus executes for one event."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        nonlocal steps
        steps += event == "line"
        return trace if frame.f_code.co_filename in files else None

    files = {memory_module.__file__, log_module.__file__}
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await bus.publish("live", 0, *named("a" * 90))
    finally:
        sys.settrace(before)
    return steps


async def test_an_event_costs_the_same_however_many_runs_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = set_clock(monkeypatch)
    full, silent = list[int](), list[int]()
    for runs in (10, 200):
        bus = MemoryBus(keep_seconds=10, max_bytes=(runs + 1) * FULL)
        for number in range(2 * runs):
            await bus.publish(f"ended_{number}", 0, run_event("completed"), *named("x" * 90))
        # Some are followed, and silent for long.
        for number in range(runs):
            await bus.publish(f"followed_{number}", 0, *named("x" * 10))
            assert await take(subscribe(bus, f"followed_{number}", 0), 1) == ["x" * 10]
        async with contextlib.AsyncExitStack() as stack:
            for number in range(runs):
                source = subscribe(bus, f"followed_{number}", 0)
                await stack.enter_async_context(contextlib.aclosing(source))
                await take(source, 1)
            full.append(min([await steps_of_a_publish(bus) for _ in range(4)]))
            clock.time += 11
            # This one has to do with what is too old: the others have not.
            await steps_of_a_publish(bus)
            silent.append(min([await steps_of_a_publish(bus) for _ in range(4)]))
    # It may drop one event or two. Of twenty times as many runs it is to take no notice.
    assert max(full) < 2 * min(full), full
    assert max(silent) < 2 * min(silent), silent


async def test_a_reader_of_a_long_log_lets_others_in() -> None:
    bus = MemoryBus()
    await bus.publish(RUN, 0, *named(*["a"] * 20 * PORTION))
    async with counting_turns() as turns:
        await take(subscribe(bus, RUN, 0), 20 * PORTION)
        assert turns() >= 19


async def test_what_is_kept_of_a_run_that_lost_its_events() -> None:
    size = size_of(*named("x" * 100))
    bus = MemoryBus(max_bytes=2 * size)
    await bus.publish(RUN, 0, *named("a" * 100, "b" * 100))
    for count, after in enumerate([1, 2, 2], 1):
        await bus.publish(OTHER, 0, *named(str(count) * 100))
        assert await bus.kept(RUN) == (after, 2, False)
    # A reader that has had them all gets what follows.
    async with contextlib.aclosing(subscribe(bus, RUN, 2)) as source:
        upcoming = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0)
        await bus.publish(RUN, 0, *named("c"))
        assert await upcoming == ["c"]
    assert await refused(subscribe(bus, RUN, 1)) == EventsGone


async def test_what_is_kept_takes_as_much_memory_as_is_counted() -> None:
    bus = MemoryBus()
    before = resident(os.getpid())
    counted = 0
    for number in range(20_000):
        event = build.text_delta("msg_1", 0, f" {number}", first=False)
        counted += size_of(event)
        await bus.publish(RUN, 0, event)
    assert resident(os.getpid()) - before < 2 * counted
    assert counted < 20_000 * 500


async def test_too_many_bytes_cost_the_quietest_run_its_oldest_events() -> None:
    size = size_of(*named("x" * 100))
    bus = MemoryBus(max_bytes=4 * size)
    lagging = subscribe(bus, RUN, 0)
    await bus.publish(RUN, 0, *named("a" * 100, "b" * 100))
    assert await take(lagging, 1) == ["a" * 100]
    await bus.publish(OTHER, 0, *named("c" * 100, "d" * 100, "e" * 100))
    # One had to go: it is the one that has been read.
    assert await refused(subscribe(bus, RUN, 0)) == EventsGone
    assert await take(lagging, 1) == ["b" * 100]
    await bus.publish(OTHER, 0, *named("f" * 100))
    await bus.publish(RUN, 0, *named("g" * 100))
    # Now the other run is the quieter one.
    assert await take(lagging, 1) == ["g" * 100]
    assert await refused(subscribe(bus, OTHER, 0)) == EventsGone
    assert await take(subscribe(bus, OTHER, 1), 3) == ["d" * 100, "e" * 100, "f" * 100]


async def test_a_reader_that_lags_holds_a_part_only() -> None:
    bus = MemoryBus(max_bytes=1000 * size_of(*named("a")))
    await bus.publish(RUN, 0, *named(*["a"] * 1000))
    source = subscribe(bus, RUN, 0)
    assert await take(source, 1) == ["a"]
    await bus.publish(OTHER, 0, *named(*["b"] * 1000))
    # What it had taken it gives, and not a thousand events.
    assert await take(source, PORTION - 1) == ["a"] * (PORTION - 1)
    assert await refused(source) == EventsGone
