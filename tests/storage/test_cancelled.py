"""Callers that go away at any moment: what they began is finished, and nothing stays locked."""

import asyncio
import random

import pytest
from sqlalchemy import text

from storage import Storage
from storage.pages import PageRequest
from tests.support.gone import reported
from tests.support.storage.rows import PROJECT, execute, holding, make_thread, user

CALLERS = 50
SLOWEST = 0.006
"""Seconds; a write takes a few milliseconds."""


async def test_callers_that_go_away_leave_no_lock(storage: Storage) -> None:
    thread = await make_thread(storage)
    moments = random.Random(1)
    for number in range(CALLERS):
        writing = asyncio.create_task(
            storage.messages.create(PROJECT, thread.id, user(f"gone {number}"))
        )
        await asyncio.sleep(moments.uniform(0, SLOWEST))
        writing.cancel()
        await storage.messages.create(PROJECT, thread.id, user(f"there {number}"))
    await storage.database.close()
    page = PageRequest(limit=2 * CALLERS, order="asc")
    kept = (await storage.messages.list(PROJECT, thread.id, page)).data
    texts = [message.content[0]["text"]["value"] for message in kept]
    assert [text for text in texts if "there" in text] == [f"there {n}" for n in range(CALLERS)]


async def test_what_was_begun_is_finished(storage: Storage) -> None:
    thread = await make_thread(storage)
    async with holding(storage, thread.id):
        # It waits for this one, longer than its caller does.
        writing = asyncio.create_task(
            storage.threads.modify(PROJECT, thread.id, {"metadata_": {"a": "1"}})
        )
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    await storage.database.close()
    assert (await storage.threads.get(PROJECT, thread.id)).metadata_ == {"a": "1"}


async def test_an_expected_error_is_not_logged_when_its_caller_has_gone(storage: Storage) -> None:
    assert await reported(storage, storage.threads.modify(PROJECT, "thread_x", {})) == []


async def test_a_defect_is_logged_when_its_caller_has_gone(storage: Storage) -> None:
    await execute(storage, text("ALTER TABLE threads RENAME TO hidden"))
    working = storage.threads.modify(PROJECT, "thread_x", {})
    assert await reported(storage, working) == ["background task failed"]
