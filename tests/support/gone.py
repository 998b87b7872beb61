"""Callers that go away while their work goes on."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

from structlog.testing import capture_logs

from storage import Storage

TURNS = 10
"""Of the event loop, until what the database has answered is all the way up."""


async def reported(storage: Storage, work: Coroutine[Any, Any, object]) -> list[str]:
    """Cancels the work as soon as it has begun; returns what the log and the loop report of it."""
    loop, reports = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    with capture_logs() as logs:
        working = asyncio.create_task(work)
        await asyncio.sleep(0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await storage.database.close()
        del working
        for _ in range(TURNS):
            await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
    return reports + [entry["event"] for entry in logs]
