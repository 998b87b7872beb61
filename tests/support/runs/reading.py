"""Readers of streams: one event at a time, and as a client sees it."""

import contextlib
from collections.abc import AsyncGenerator

from assistants.v1 import events_pb2

from service.runner.events.bus import Subscription
from service.runner.events.streams import EventStream
from service.types.events import Event, to_proto

RunEvent = events_pb2.RunEvent


async def one_by_one(source: EventStream | Subscription) -> AsyncGenerator[Event, None]:
    """Yields the events of a stream, which it closes."""
    async with contextlib.aclosing(source):
        while not getattr(source, "ended", False):
            for event in await source.take():
                yield event


async def as_sent(stream: EventStream) -> AsyncGenerator[RunEvent, None]:
    """Yields the events of a stream as gRPC sends them."""
    async with contextlib.aclosing(one_by_one(stream)) as events:
        async for event in events:
            yield to_proto(event)


async def whole(stream: EventStream) -> list[RunEvent]:
    """Returns all events of a stream as gRPC sends them."""
    return [event async for event in as_sent(stream)]
