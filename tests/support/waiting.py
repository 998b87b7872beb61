"""Waiting for what must happen, however long it takes, within reason."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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


@asynccontextmanager
async def counting_turns() -> AsyncIterator[Callable[[], int]]:
    """Gives how many turns the loop has had meanwhile, of which a task of its own takes part."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    try:
        yield lambda: turns
    finally:
        beside.cancel()
