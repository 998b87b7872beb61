"""Streams of events that tell when nothing happens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def with_silences(
    source: AsyncGenerator[T, None], seconds: float
) -> AsyncGenerator[T | None, None]:
    """Yields what `source` yields, and None whenever it yields nothing for so many seconds.

    Closes `source` when it ends or is closed itself.
    """
    async with aclosing(source):
        upcoming = asyncio.ensure_future(_next(source))
        try:
            while True:
                await asyncio.wait({upcoming}, timeout=seconds)
                if not upcoming.done():
                    yield None
                    continue
                try:
                    item = upcoming.result()
                except StopAsyncIteration:
                    return
                upcoming = asyncio.ensure_future(_next(source))
                yield item
        finally:
            # A generator that is still awaited cannot be closed.
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)


async def _next(source: AsyncGenerator[T, None]) -> T:
    return await anext(source)
