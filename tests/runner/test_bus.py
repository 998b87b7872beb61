"""The event bus: numbers, what is kept and for how long, and readers of every speed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from service.errors import ApiError, Kind
from service.runner.events import bus as bus_module
from service.runner.events.bus import InProcessBus, size_of
from service.types.events import Event
from tests.runner.reading import one_by_one

RUN, OTHER = "run_1", "run_2"


def named(*names: str) -> list[Event]:
    """Events of a size that goes by their names: 100 bytes for each letter, and what all take."""
    return [Event(name, name.encode() * 100) for name in names]


def subscribe(bus: InProcessBus, run_id: str, after: int) -> AsyncGenerator[Event, None]:
    """Reads one event at a time."""
    return one_by_one(bus.subscribe(run_id, after))


async def take(source: AsyncGenerator[Event, None], count: int) -> list[str]:
    async with asyncio.timeout(60):
        return [(await anext(source)).name for _ in range(count)]


async def refused(source: AsyncGenerator[Event, None]) -> Kind:
    """Reads on, which must fail."""
    with pytest.raises(ApiError) as caught:
        async with asyncio.timeout(60):
            await anext(source)
    return caught.value.kind


async def test_events_are_numbered_in_order() -> None:
    bus = InProcessBus()
    events = named("a", "b", "c")
    assert await bus.publish(RUN, 0, *events[:2]) == 1
    assert await bus.publish(RUN, 1, events[2]) == 3
    assert [event.number for event in events] == [1, 2, 3]
    assert await bus.publish(OTHER, 0, *named("x")) == 1


async def test_numbers_jump_with_the_attempt_where_the_bus_has_lost_count() -> None:
    numbers = [await InProcessBus().publish(RUN, attempt, *named("a")) for attempt in range(4)]
    assert all(after - before > 1_000_000 for before, after in pairwise(numbers))


async def test_numbers_jump_though_a_reader_was_there_first() -> None:
    bus = InProcessBus()
    async with contextlib.aclosing(subscribe(bus, RUN, 7)) as source:
        upcoming = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0)
        assert await bus.publish(RUN, 2, *named("a")) == (2 << 20) + 1
        assert await upcoming == ["a"]


async def test_publishing_nothing_tells_the_next_number() -> None:
    bus = InProcessBus()
    await bus.publish(RUN, 0, *named("a"))
    assert await bus.publish(RUN, 0) == 2


async def test_a_reader_gets_what_is_kept_then_what_comes() -> None:
    bus = InProcessBus()
    await bus.publish(RUN, 0, *named("a", "b"))
    async with (
        contextlib.aclosing(subscribe(bus, RUN, 0)) as all_of_it,
        contextlib.aclosing(subscribe(bus, RUN, 1)) as rest,
    ):
        assert await take(all_of_it, 2) == ["a", "b"]
        assert await take(rest, 1) == ["b"]
        upcoming = [asyncio.ensure_future(take(each, 2)) for each in (all_of_it, rest)]
        await asyncio.sleep(0)
        await bus.publish(OTHER, 0, *named("x"))
        await bus.publish(RUN, 0, *named("c"))
        await bus.publish(RUN, 0, *named("d"))
        assert await asyncio.gather(*upcoming) == [["c", "d"], ["c", "d"]]


async def test_a_reader_may_come_before_the_run() -> None:
    bus = InProcessBus()
    async with contextlib.aclosing(subscribe(bus, RUN, 0)) as source:
        upcoming = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0)
        await bus.publish(RUN, 0, *named("a"))
        assert await upcoming == ["a"]


async def test_publishing_never_waits_for_a_reader_that_lags() -> None:
    bus = InProcessBus()
    await bus.publish(RUN, 0, *named("0"))
    async with contextlib.aclosing(subscribe(bus, RUN, 0)) as source:
        assert await take(source, 1) == ["0"]
        for number in range(1, 1000):
            await bus.publish(RUN, 0, *named(str(number)))
        assert await take(source, 999) == [str(number) for number in range(1, 1000)]


async def test_too_many_bytes_cost_the_quietest_run_its_oldest_events() -> None:
    size = size_of(*named("x" * 100))
    bus = InProcessBus(max_bytes=4 * size)
    lagging = subscribe(bus, RUN, 0)
    await bus.publish(RUN, 0, *named("a" * 100, "b" * 100))
    assert await take(lagging, 1) == ["a" * 100]
    await bus.publish(OTHER, 0, *named("c" * 100, "d" * 100, "e" * 100))
    # One had to go: it is the one that has been read.
    assert await refused(subscribe(bus, RUN, 0)) == Kind.events_gone
    assert await take(lagging, 1) == ["b" * 100]
    await bus.publish(OTHER, 0, *named("f" * 100))
    await bus.publish(RUN, 0, *named("g" * 100))
    # Now the other run is the quieter one.
    assert await take(lagging, 1) == ["g" * 100]
    assert await refused(subscribe(bus, OTHER, 0)) == Kind.events_gone
    assert await take(subscribe(bus, OTHER, 1), 3) == ["d" * 100, "e" * 100, "f" * 100]


async def test_a_reader_that_lags_too_far_is_told() -> None:
    size = size_of(*named("x" * 100))
    bus = InProcessBus(max_bytes=2 * size)
    await bus.publish(RUN, 0, *named("a" * 100))
    source = subscribe(bus, RUN, 0)
    assert await take(source, 1) == ["a" * 100]
    await bus.publish(RUN, 0, *named("b" * 100, "c" * 100, "d" * 100))
    assert await refused(source) == Kind.events_gone


async def test_a_reader_that_lags_holds_a_part_only() -> None:
    bus = InProcessBus(max_bytes=1000 * size_of(*named("a")))
    await bus.publish(RUN, 0, *named(*["a"] * 1000))
    source = subscribe(bus, RUN, 0)
    assert await take(source, 1) == ["a"]
    await bus.publish(OTHER, 0, *named(*["b"] * 1000))
    # What it had taken it gives, and not a thousand events.
    assert await take(source, bus_module.PORTION - 1) == ["a"] * (bus_module.PORTION - 1)
    assert await refused(source) == Kind.events_gone


async def test_closing_ends_readers_once_they_have_read_what_is_kept() -> None:
    bus = InProcessBus()
    await bus.publish(RUN, 0, *named("a"))
    lagging = subscribe(bus, RUN, 0)
    assert await take(lagging, 1) == ["a"]
    await bus.publish(RUN, 0, *named("b", "done"))
    bus.close()
    assert await take(lagging, 2) == ["b", "done"]
    assert await refused(lagging) == Kind.unavailable
    assert await refused(subscribe(bus, "run_new", 0)) == Kind.unavailable


async def test_closing_ends_a_reader_that_waits() -> None:
    bus = InProcessBus()
    refusal = asyncio.ensure_future(refused(subscribe(bus, RUN, 0)))
    await asyncio.sleep(0)
    bus.close()
    assert await refusal == Kind.unavailable
