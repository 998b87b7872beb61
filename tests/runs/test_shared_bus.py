"""The bus that several servers share: one order, whoever publishes, with NATS and without."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.runner.events.bus import EPOCH_NUMBERS, EventBus
from service.types.events import Event
from tests.support.contract.adapters import RUN, JetStreams, named, run_event, subscribe, take
from tests.support.nats import Nats, cluster

SERVICE = "shared"
"""The prefix of all buses of a test, whose runs no other test has."""


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server that a test may kill."""
    server = Nats(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def three_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Nats]]:
    """Three NATS servers that are a cluster."""
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture(params=["one NATS", "three NATS"])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[list[EventBus]]:
    """The buses of three servers."""
    alone = request.param == "one NATS"
    nats = [request.getfixturevalue("nats")] if alone else request.getfixturevalue("three_nats")
    prefix = nats[0].prefix()
    async with contextlib.aclosing(JetStreams(*nats)) as jetstreams:
        yield [await jetstreams.bus(prefix=prefix) for _ in range(3)]


@pytest.fixture
async def suffering(own_nats: Nats) -> AsyncIterator[list[EventBus]]:
    """The buses of three servers whose NATS will be away."""
    async with contextlib.aclosing(JetStreams(own_nats)) as jetstreams:
        yield [await jetstreams.bus(prefix=SERVICE) for _ in range(3)]


async def read(bus: EventBus, last: str, after: int = 0) -> list[tuple[int, str]]:
    """Returns the numbers and names of events up to the one that is named `last`."""
    found = list[tuple[int, str]]()
    async with asyncio.timeout(60), contextlib.aclosing(subscribe(bus, RUN, after)) as events:
        async for event in events:
            found.append((event.number, event.name))
            if event.name == last:
                break
    return found


async def test_all_see_one_order_of_what_all_publish(servers: list[EventBus]) -> None:
    early = [asyncio.ensure_future(read(bus, "last")) for bus in servers]

    async def publish(at: int, bus: EventBus) -> None:
        for number in range(30):
            await bus.publish(RUN, 0, *named(f"{at}-{number}", f"{at}-{number}'"))

    await asyncio.gather(*(publish(at, bus) for at, bus in enumerate(servers)))
    await servers[0].publish(RUN, 0, *named("last"))
    seen = await asyncio.gather(*early, *(read(bus, "last") for bus in servers))
    assert all(each == seen[0] for each in seen)
    assert [number for number, _ in seen[0]] == list(range(1, 182))
    # What is published at once stays together, in each one's order.
    for at in range(3):
        own = [name for _, name in seen[0] if name.startswith(f"{at}-")]
        assert own == [f"{at}-{number}{end}" for number in range(30) for end in ("", "'")]


async def test_a_reader_joins_anywhere(servers: list[EventBus]) -> None:
    first = await servers[0].publish(RUN, 1, *named(*"abcdef"))
    for bus in servers:
        kept = await bus.kept(RUN)
        assert kept == (first - 1, first + 5, False)
        assert await read(bus, "f", first + 2) == [
            (first + 3, "d"),
            (first + 4, "e"),
            (first + 5, "f"),
        ]
    await servers[1].publish(RUN, 1, run_event("completed"))
    for bus in servers:
        kept = await bus.kept(RUN)
        assert kept is not None
        assert (kept.last, kept.over) == (first + 6, True)


async def test_what_comes_of_an_older_epoch_is_dropped(servers: list[EventBus]) -> None:
    stuck, taker, reader = servers
    await stuck.publish(RUN, 1, *named("a"))
    number = await taker.publish(RUN, 2, *named("b"))
    assert await stuck.publish(RUN, 1, *named("late")) == number + 1
    assert not await stuck.publish_if_last(number, RUN, 1, *named("late"))
    await taker.publish(RUN, 2, *named("c"))
    for bus in (stuck, taker, reader):
        assert [name for _, name in await read(bus, "c")] == ["a", "b", "c"]


async def test_one_of_two_completes_a_stream(servers: list[EventBus]) -> None:
    last = await servers[0].publish(RUN, 0, *named("a"))
    done = [bus.publish_if_last(last, RUN, 0, *named("end")) for bus in servers]
    assert sorted(await asyncio.gather(*done)) == [False, False, True]
    for bus in servers:
        assert await read(bus, "end") == [(1, "a"), (2, "end")]


async def test_events_of_any_size(servers: list[EventBus]) -> None:
    """NATS takes messages of 1 MiB."""
    writer, other, reader = servers
    sizes = (0, 1, 2**20, 5, 3 * 2**20 + 1)
    events = [
        Event(f"{at}", bytes([97 + at]) * size, f"id{at}", {"ä": [at]})
        for at, size in enumerate(sizes)
    ]
    following = subscribe(reader, RUN, 0)
    upcoming = asyncio.ensure_future(anext(following))
    await asyncio.gather(writer.publish(RUN, 0, *events), other.publish(RUN, 0, *named("beside")))
    async with asyncio.timeout(60):
        seen = [await upcoming, *[await anext(following) for _ in sizes]]
    assert sorted(seen, key=lambda event: event.name) == [
        *events,
        *[each for each in seen if each.name == "beside"],
    ]
    assert [event.number for event in seen] == list(range(1, 7))
    assert [event async for event in take_all(other, 6)] == seen


async def take_all(bus: EventBus, count: int) -> AsyncIterator[Event]:
    async with asyncio.timeout(60), contextlib.aclosing(subscribe(bus, RUN, 0)) as events:
        for _ in range(count):
            yield await anext(events)


@pytest.mark.parametrize("with_store", [True, False])
async def test_what_was_published_without_nats(
    suffering: list[EventBus], own_nats: Nats, with_store: bool
) -> None:
    writer, other, _ = suffering
    following = subscribe(other, RUN, 0)
    await writer.publish(RUN, 1, *named("a", "b"))
    assert await take(following, 2) == ["a", "b"]
    own_nats.kill()
    for name in "cd":
        await writer.publish(RUN, 1, *named(name))
    assert [name for _, name in await read(writer, "d")] == [*"abcd"]
    if not with_store:
        own_nats.forget()
    own_nats.start()
    assert await take(following, 2) == ["c", "d"]
    await writer.publish(RUN, 1, *named("e"))
    seen = [await read(bus, "e") for bus in suffering]
    assert seen == [[(EPOCH_NUMBERS + 1 + at, name) for at, name in enumerate("abcde")]] * 3


async def test_what_a_server_without_nats_publishes_after_it_has_lost_its_run(
    suffering: list[EventBus], own_nats: Nats
) -> None:
    """It is its readers' alone: for all others, the run goes on where the next one took it up."""
    lonely, taker, reader = suffering
    await lonely.publish(RUN, 1, *named("a"))
    own_nats.kill()
    await lonely.publish(RUN, 1, *named("unseen"))
    await taker.publish(RUN, 2, *named("b"))
    own_nats.start()
    await taker.publish(RUN, 2, *named("c"))
    seen = [name for _, name in await read(reader, "c")]
    assert seen in ([*"abc"], ["a", "unseen", *"bc"])
    assert [name for _, name in await read(lonely, "c")][-1] == "c"
