"""The adapters of each port, which its suite runs, and short ways to use them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

import pytest

from service.runner.events.bus import EventBus
from service.runner.events.memory import MemoryBus
from service.runner.queue.memory import MemoryQueue
from service.runner.queue.queue import RunQueue
from service.types.events import Event
from tests.support.runs.reading import one_by_one

RUN, OTHER = "run_1", "run_2"


class OpenBus(Protocol):
    """Opens a bus that knows nothing, with the bytes that it may keep."""

    def __call__(self, *, max_bytes: int = ...) -> EventBus: ...


BUSES: dict[str, OpenBus] = {"memory": MemoryBus}


@dataclass(frozen=True)
class Queues:
    """An adapter of the queue: `open` opens one server's queue on one and the same backend."""

    open: Callable[[], RunQueue]
    outlives_servers: bool
    """Whether what a server leaves goes to the next one, and is not lost."""


QUEUES = {"memory": Queues(MemoryQueue, outlives_servers=False)}


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
