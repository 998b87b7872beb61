"""Waiting for what may not come."""

import asyncio
import contextlib


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Waits until the event is set, or for so many seconds."""
    # Not wait_for(): in Python 3.11 that may lose a cancellation.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
