"""What every adapter of EventBus does: numbers, order, epochs, readers of every speed, stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from service.errors import BusClosed, EventsGone
from service.runner.events.bus import EPOCH_NUMBERS, PORTION, EventBus, Stop, kept_events
from storage.tables import ACTIVE, RunStatus
from tests.support.contract.adapters import (
    OTHER,
    RUN,
    JetStreams,
    OpenBus,
    named,
    open_memory_bus,
    refused,
    run_event,
    subscribe,
    take,
)
from tests.support.waiting import until

SMALL = 4000
"""Bytes that a bus may keep: some events, but not many."""


@pytest.fixture(params=["memory", "jetstream"])
async def open_bus(request: pytest.FixtureRequest) -> AsyncIterator[OpenBus]:
    """Each adapter."""
    if request.param == "memory":
        yield open_memory_bus
        return
    async with contextlib.aclosing(JetStreams(request.getfixturevalue("nats"))) as jetstreams:
        yield jetstreams.bus


@pytest.fixture
async def bus(open_bus: OpenBus) -> EventBus:
    """A bus of each adapter."""
    return await open_bus()


async def lose(bus: EventBus) -> None:
    """Has a bus that may keep SMALL bytes lose all events of RUN."""
    for number in range(100):
        await bus.publish(OTHER, 0, *named(str(number % 10) * 10))


async def test_events_are_numbered_in_order(bus: EventBus) -> None:
    events = named("a", "b", "c")
    assert await bus.publish(RUN, 0, *events[:2]) == 1
    assert await bus.publish(RUN, 1, events[2]) == 3
    assert [event.number for event in events] == [1, 2, 3]
    assert await bus.publish(OTHER, 0, *named("x")) == 1


async def test_numbers_have_no_gaps(bus: EventBus) -> None:
    first = [
        await bus.publish(run_id, epoch // 10, *named("a", "b", "c"))
        for epoch in range(30)
        for run_id in (RUN, OTHER)
    ]
    assert first[::2] == first[1::2] == list(range(1, 90, 3))


async def test_numbers_grow_with_the_epoch_where_the_bus_has_lost_count(open_bus: OpenBus) -> None:
    numbers = [await (await open_bus()).publish(RUN, epoch, *named("a")) for epoch in range(4)]
    assert all(after - before >= EPOCH_NUMBERS for before, after in pairwise(numbers))


async def test_numbers_jump_though_a_reader_was_there_first(bus: EventBus) -> None:
    async with contextlib.aclosing(subscribe(bus, RUN, 7)) as source:
        upcoming = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0)
        assert await bus.publish(RUN, 2, *named("a")) > 2 * EPOCH_NUMBERS
        assert await upcoming == ["a"]


async def test_publishing_nothing_returns_the_next_number(bus: EventBus) -> None:
    await bus.publish(RUN, 0, *named("a"))
    assert await bus.publish(RUN, 0) == 2


async def test_a_reader_gets_what_is_kept_then_what_comes(bus: EventBus) -> None:
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


async def test_a_reader_may_come_before_the_run(bus: EventBus) -> None:
    async with contextlib.aclosing(subscribe(bus, RUN, 0)) as source:
        upcoming = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0)
        await bus.publish(RUN, 0, *named("a"))
        assert await upcoming == ["a"]


async def test_all_readers_get_the_same_events(bus: EventBus) -> None:
    events = named(*"abc")
    await bus.publish(RUN, 0, *events)
    for _ in range(2):
        async with contextlib.aclosing(bus.subscribe(RUN, 0)) as source:
            assert await source.take() == events


async def test_a_portion_is_limited(bus: EventBus) -> None:
    await bus.publish(RUN, 0, *named(*["a"] * (PORTION + 5)))
    async with contextlib.aclosing(bus.subscribe(RUN, 0)) as source:
        assert [len(await source.take()) for _ in range(2)] == [PORTION, 5]


async def test_silence_ends_a_take_and_loses_nothing(bus: EventBus) -> None:
    async with contextlib.aclosing(bus.subscribe(RUN, 0)) as source:
        assert await source.take(0) == []
        events = named("a")
        await bus.publish(RUN, 0, *events)
        assert await source.take(0) == events


async def test_a_take_that_is_cancelled_loses_nothing(bus: EventBus) -> None:
    async with contextlib.aclosing(bus.subscribe(RUN, 0)) as source:
        upcoming = asyncio.ensure_future(source.take())
        await asyncio.sleep(0)
        events = named("a")
        await bus.publish(RUN, 0, *events)
        # Woken already, but not run yet, in memory.
        upcoming.cancel()
        await asyncio.wait([upcoming])
        assert (await source.take() if upcoming.cancelled() else upcoming.result()) == events


async def test_publishing_never_waits_for_a_reader_that_lags(bus: EventBus) -> None:
    await bus.publish(RUN, 0, *named("0"))
    async with contextlib.aclosing(subscribe(bus, RUN, 0)) as source:
        assert await take(source, 1) == ["0"]
        for number in range(1, 1000):
            await bus.publish(RUN, 0, *named(str(number)))
        assert await take(source, 999) == [str(number) for number in range(1, 1000)]


async def test_a_reader_that_lags_too_far_gets_an_error(open_bus: OpenBus) -> None:
    bus = await open_bus(max_bytes=SMALL)
    await bus.publish(RUN, 0, *named("a"))
    source = subscribe(bus, RUN, 0)
    assert await take(source, 1) == ["a"]
    for number in range(100):
        await bus.publish(RUN, 0, *named(str(number % 10) * 10))
    assert await refused(source) == EventsGone
    # So does a new one, and what is kept can still be read.
    assert await refused(subscribe(bus, RUN, 0)) == EventsGone
    kept = await bus.kept(RUN)
    assert kept is not None
    assert (kept.after > 1, kept.last) == (True, 101)
    await take(subscribe(bus, RUN, kept.after), kept.last - kept.after)


async def test_numbers_go_on_though_nothing_is_kept(open_bus: OpenBus) -> None:
    bus = await open_bus(max_bytes=SMALL)
    await bus.publish(RUN, 1, *named("a", "b"))
    kept = await bus.kept(RUN)
    assert kept is not None
    await lose(bus)
    assert await refused(subscribe(bus, RUN, kept.last - 1)) == EventsGone
    upcoming = asyncio.ensure_future(take(subscribe(bus, RUN, kept.last), 1))
    await asyncio.sleep(0)
    assert await bus.publish(RUN, 1, *named("c")) > kept.last
    assert await upcoming == ["c"]


async def test_only_if_nothing_was_published_meanwhile(open_bus: OpenBus) -> None:
    bus = await open_bus(max_bytes=SMALL)
    await bus.publish(RUN, 0, *named("a", "b"))
    assert not await bus.publish_if_last(1, RUN, 0, *named("c"))
    assert await bus.publish_if_last(2, RUN, 0, *named("c"))
    # Also where its events are not kept any more.
    await lose(bus)
    assert not await bus.publish_if_last(2, RUN, 0, *named("d"))
    assert await bus.publish_if_last(3, RUN, 0, *named("d"))
    assert await take(subscribe(bus, RUN, 3), 1) == ["d"]


async def test_what_is_kept(bus: EventBus) -> None:
    assert await bus.kept(RUN) is None
    async with contextlib.aclosing(subscribe(bus, RUN, 0)) as source:
        upcoming = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0)
        # A reader alone is no reason to know the run.
        assert await bus.kept(RUN) is None
        events = [run_event("created"), run_event("queued")]
        await bus.publish(RUN, 0, *events)
        await upcoming
    kept = await bus.kept(RUN)
    assert kept is not None
    assert kept == (0, 2, False)


async def test_what_is_kept_where_the_bus_has_lost_count(bus: EventBus) -> None:
    first = await bus.publish(RUN, 3, *named("a"))
    kept = await bus.kept(RUN)
    assert kept is not None
    assert (kept.after, kept.last) == (first - 1, first)


@pytest.mark.parametrize("status", list(RunStatus))
async def test_a_run_is_over_when_its_end_was_published(bus: EventBus, status: RunStatus) -> None:
    await bus.publish(RUN, 0, run_event(status), *named("done"))
    kept = await bus.kept(RUN)
    assert kept is not None
    assert kept.over == (status not in ACTIVE)


async def test_kept_events_are_read_between_two_numbers(bus: EventBus) -> None:
    await bus.publish(RUN, 0, *named(*"abcde"))
    assert [event.name async for event in kept_events(bus, RUN, 1, 4)] == ["b", "c", "d"]
    await bus.close()
    assert [event.name async for event in kept_events(bus, RUN, 3, 9)] == ["d", "e"]


async def test_a_stop_reaches_all_who_subscribed(bus: EventBus) -> None:
    received = list[tuple[int, str, Stop]]()
    for server in range(2):
        bus.subscribe_stops(lambda *stop, server=server: received.append((server, *stop)))
    await bus.publish_stop(RUN, Stop.cancelled)
    await bus.publish_stop(OTHER, Stop.lost)
    await until(lambda: len(received) == 4)
    for server in range(2):
        of_server = [stop for at, *stop in received if at == server]
        assert of_server == [[RUN, Stop.cancelled], [OTHER, Stop.lost]]
    # It is no event, and not kept.
    assert await bus.kept(RUN) is None
    late = list[str]()
    bus.subscribe_stops(lambda run_id, reason: late.append(run_id))
    await bus.publish_stop(OTHER, Stop.lost)
    await until(lambda: bool(late))
    assert late == [OTHER]


async def test_closing_ends_readers_once_they_have_read_what_is_kept(bus: EventBus) -> None:
    await bus.publish(RUN, 0, *named("a"))
    lagging = subscribe(bus, RUN, 0)
    assert await take(lagging, 1) == ["a"]
    await bus.publish(RUN, 0, *named("b", "done"))
    await bus.close()
    assert await take(lagging, 2) == ["b", "done"]
    assert await refused(lagging) == BusClosed
    assert await refused(subscribe(bus, "run_new", 0)) == BusClosed


async def test_closing_ends_a_reader_that_waits(bus: EventBus) -> None:
    refusal = asyncio.ensure_future(refused(subscribe(bus, RUN, 0)))
    await asyncio.sleep(0)
    await bus.close()
    assert await refusal == BusClosed


async def test_a_closed_bus_still_accepts_events(bus: EventBus) -> None:
    received = list[str]()
    bus.subscribe_stops(lambda run_id, reason: received.append(run_id))
    await bus.close()
    await bus.publish(RUN, 0, *named("a"))
    await bus.publish_stop(RUN, Stop.lost)
    await asyncio.sleep(0)
    assert received == []
