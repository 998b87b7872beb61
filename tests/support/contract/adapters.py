"""The adapters of each port, which its suite runs, and short ways to use them."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pytest

from service.runner.connection import NatsSettings
from service.runner.events.bus import EventBus
from service.runner.events.jetstream import JetStreamBus
from service.runner.events.memory import MemoryBus
from service.runner.jetstream import JetStream
from service.runner.queue.jetstream import JetStreamQueue
from service.runner.queue.memory import MemoryQueue
from service.runner.queue.queue import RunQueue
from service.types.events import Event
from storage import ids
from tests.support.nats import Nats
from tests.support.runs.reading import one_by_one

RUN, OTHER = "run_1", "run_2"

Adapter = TypeVar("Adapter", bound=EventBus | RunQueue)


class OpenBus(Protocol):
    """Opens a bus that knows nothing, with the bytes that it may keep."""

    async def __call__(self, *, max_bytes: int = ...) -> EventBus: ...


class OpenQueue(Protocol):
    """Opens the queue of a server, one more or that of a name, always on the same backend."""

    async def __call__(self, server: str = ..., *, takes: bool = ...) -> RunQueue: ...


@dataclass(frozen=True)
class Queues:
    """An adapter of the queue."""

    open: OpenQueue
    outlives_servers: bool
    """Whether what a server leaves goes to the next one, and is not lost."""


async def open_memory_bus(**options: int) -> EventBus:
    """A bus in memory."""
    return await opened(MemoryBus(**options))


async def open_memory_queue(server: str = "server", *, takes: bool = True) -> RunQueue:
    """A queue in memory."""
    return await opened(MemoryQueue(server, takes=takes))


class JetStreams:
    """Buses and queues on a NATS server or a cluster, for one test."""

    def __init__(self, nats: Nats, *others: Nats) -> None:
        self._nats = nats
        self._servers = tuple(server.url for server in (nats, *others))
        self._queues = nats.prefix()
        self._open: list[tuple[JetStream, EventBus | RunQueue]] = []

    async def bus(self, *, max_bytes: int = 64 * 2**20, prefix: str = "") -> EventBus:
        """Opens a bus of a service of its own."""
        nats = self._connection(prefix or self._nats.prefix())
        bus = JetStreamBus(nats, max_bytes=max_bytes, stream_bytes=max_bytes)
        return await self._opened(nats, bus)

    async def queue(self, server: str = "", *, takes: bool = True) -> RunQueue:
        """Opens a queue of the service that all queues of this test are of."""
        nats = self._connection(self._queues)
        queue = JetStreamQueue(nats, server or ids.new_id("server"), takes=takes)
        return await self._opened(nats, queue)

    async def cut(self, adapter: EventBus | RunQueue) -> None:
        """Takes a server's connection away for good, as its death does."""
        await self.connection(adapter).close()

    def connection(self, adapter: EventBus | RunQueue) -> JetStream:
        """Returns the connection of an adapter."""
        return next(nats for nats, each in self._open if each is adapter)

    async def aclose(self) -> None:
        """Closes them all."""
        for nats, adapter in self._open:
            await adapter.close()
            await nats.close()

    def _connection(self, prefix: str) -> JetStream:
        replicas = len(self._servers)
        return JetStream(NatsSettings(servers=self._servers, prefix=prefix, replicas=replicas))

    async def _opened(self, nats: JetStream, adapter: Adapter) -> Adapter:
        self._open.append((nats, adapter))
        await nats.open()
        async with asyncio.timeout(60):
            # A cluster that has just been started has no leader yet.
            await nats.wait_up()
        return await opened(adapter)


async def opened(adapter: Adapter) -> Adapter:
    """Opens an adapter."""
    await adapter.open()
    return adapter


async def take_run(queue: RunQueue) -> str:
    """Waits for a run, and takes it."""
    while True:
        await queue.ready()
        if (run_id := await queue.take()) is not None:
            return run_id


def named(*names: str) -> list[Event]:
    """Events of a size that goes by their names: 100 bytes for each letter, and what all take."""
    return [Event(name, name.encode() * 100) for name in names]


def run_event(status: str) -> Event:
    """An event that shows a run with this status."""
    return Event(f"thread.run.{status}", b"{}")


def subscribe(bus: EventBus, run_id: str, after: int) -> AsyncGenerator[Event, None]:
    """Reads one event at a time."""
    return one_by_one(bus.subscribe(run_id, after))


async def take(source: AsyncGenerator[Event, None], count: int) -> list[str]:
    """Returns the names of the next events."""
    async with asyncio.timeout(60):
        return [(await anext(source)).name for _ in range(count)]


async def refused(source: AsyncGenerator[Event, None]) -> type[Exception]:
    """Reads on, which must fail, and returns how."""
    with pytest.raises(Exception) as caught:
        async with asyncio.timeout(60):
            await anext(source)
    return caught.type
