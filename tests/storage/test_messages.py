from itertools import pairwise

import pytest
from sqlmodel import col, update
from ulid import ULID

from storage import Storage, ids
from storage.errors import ActiveRun, LockedThread, NotFound
from storage.messages import NewMessage
from storage.pages import PageRequest
from storage.tables import Thread
from tests.support.storage.rows import (
    PROJECT,
    claimed,
    execute,
    make_file,
    make_run,
    make_thread,
    start_message,
    text_part,
    user,
)


async def test_what_is_created_can_be_read(storage: Storage) -> None:
    thread = await make_thread(storage)
    file_id = await make_file(storage)
    attachments = [{"file_id": file_id, "tools": [{"type": "code_interpreter"}]}]
    new = NewMessage("assistant", [text_part("hi"), text_part("you")], attachments, {"k": "v"})
    created = await storage.messages.create(PROJECT, thread.id, new)
    assert created.id == f"msg_{created.position}"
    assert (created.status, created.completed_at) == ("completed", created.created_at)
    assert (created.role, created.content) == (new.role, new.content)
    assert (created.attachments, created.metadata_) == (attachments, {"k": "v"})
    assert await storage.messages.get(PROJECT, thread.id, created.id) == created


async def test_modify(storage: Storage) -> None:
    thread = await make_thread(storage)
    created = await storage.messages.create(PROJECT, thread.id, user("hi"))
    modified = await storage.messages.modify(
        PROJECT, thread.id, created.id, {"metadata_": {"a": "1"}}
    )
    assert (modified.metadata_, modified.content) == ({"a": "1"}, created.content)
    assert await storage.messages.get(PROJECT, thread.id, created.id) == modified


async def test_delete(storage: Storage) -> None:
    thread = await make_thread(storage, "one", "two")
    first, second = (await storage.messages.list(PROJECT, thread.id, PageRequest(order="asc"))).data
    await storage.messages.delete(PROJECT, thread.id, first.id)
    assert (await storage.messages.list(PROJECT, thread.id, PageRequest())).data == [second]


async def test_a_message_is_found_under_its_own_thread_only(storage: Storage) -> None:
    thread, other = await make_thread(storage, "hi"), await make_thread(storage)
    [message] = (await storage.messages.list(PROJECT, thread.id, PageRequest())).data
    for attempt in (
        storage.messages.get(PROJECT, other.id, message.id),
        storage.messages.modify(PROJECT, other.id, message.id, {"metadata_": {}}),
        storage.messages.delete(PROJECT, other.id, message.id),
    ):
        with pytest.raises(NotFound) as error:
            await attempt
        assert (error.value.kind, error.value.id) == ("message", message.id)


async def test_an_active_run_locks_the_thread(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    run = await make_run(storage, thread)
    with pytest.raises(LockedThread) as locked:
        await storage.messages.create(PROJECT, thread.id, user("too late"))
    with pytest.raises(ActiveRun) as active:
        await make_run(storage, thread)
    assert (locked.value.thread_id, locked.value.run_id) == (thread.id, run.id)
    assert (active.value.thread_id, active.value.run_id) == (thread.id, run.id)
    # Reading, changing and deleting go on.
    [message] = (await storage.messages.list(PROJECT, thread.id, PageRequest())).data
    await storage.messages.modify(PROJECT, thread.id, message.id, {"metadata_": {"a": "1"}})
    await storage.messages.delete(PROJECT, thread.id, message.id)


async def test_the_messages_of_a_run(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    run = await make_run(storage, thread)
    _, message = await start_message(storage, await claimed(storage, run))
    page = await storage.messages.list(PROJECT, thread.id, PageRequest(), run.id)
    assert [each.id for each in page.data] == [message.id]
    assert (await storage.messages.list(PROJECT, thread.id, PageRequest(), "run_x")).data == []


async def test_positions_increase_also_when_the_clock_goes_back(storage: Storage) -> None:
    thread = await make_thread(storage)
    future = str(ULID.from_timestamp(4_000_000_000.0))
    moved = update(Thread).where(col(Thread.id) == thread.id).values(last_position=future)
    await execute(storage, moved)
    created = [
        await storage.messages.create(PROJECT, thread.id, user(str(number))) for number in range(3)
    ]
    run = await make_run(storage, thread)
    step, answer = await start_message(storage, await claimed(storage, run))
    positions = [
        future,
        *(each.position for each in created),
        run.position,
        step.position,
        answer.position,
    ]
    assert all(earlier < later for earlier, later in pairwise(positions))
    assert run.context_until == created[-1].position
    page = await storage.messages.list(PROJECT, thread.id, PageRequest(order="asc"))
    assert [each.id for each in page.data] == [each.id for each in (*created, answer)]
    # A message's id still holds its position.
    assert [ids.position_of(ids.MESSAGE, each.id) for each in created] == [
        each.position for each in created
    ]
