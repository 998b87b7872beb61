"""Waiting for what must happen, however long it takes, within reason."""

import asyncio
from collections.abc import Awaitable, Callable

SECONDS = 60


async def until(condition: Callable[[], object]) -> None:
    """Waits until the condition is true. It is asked in a thread, and may block."""
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def run_until(ask: Callable[[], Awaitable[object]], answer: object) -> None:
    """Asks until this is the answer, from sync code."""

    async def asking() -> None:
        async with asyncio.timeout(SECONDS):
            while await ask() != answer:
                await asyncio.sleep(0.02)

    asyncio.run(asking())
