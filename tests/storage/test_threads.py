from typing import Any

import pytest
from sqlmodel import SQLModel, func, select

from storage import Storage
from storage.errors import NotFound
from storage.pages import PageRequest
from storage.resources import NOTHING, Resources
from storage.tables import Message, Run, RunStep, Thread
from tests.support.storage.rows import (
    OTHER,
    PROJECT,
    assistant_values,
    claimed,
    fetch,
    make_assistant,
    make_run,
    make_thread,
    new_run,
    start_message,
    user,
)


async def _count(storage: Storage, table: type[SQLModel]) -> int:
    [(count,)] = await fetch(storage, select(func.count()).select_from(table))
    return int(count)


async def test_a_thread_is_created_with_its_messages_in_order(storage: Storage) -> None:
    thread = await storage.threads.create(
        PROJECT, {"k": "v"}, Resources({"code_interpreter": {}}), [user("one"), user("two")]
    )
    assert await storage.threads.get(PROJECT, thread.id) == thread
    assert (thread.metadata_, thread.tool_resources) == ({"k": "v"}, {"code_interpreter": {}})
    page = await storage.messages.list(PROJECT, thread.id, PageRequest(order="asc"))
    assert [each.content[0]["text"]["value"] for each in page.data] == ["one", "two"]
    assert thread.last_position == page.data[-1].position


async def test_modify_replaces_what_is_given_and_leaves_the_rest(storage: Storage) -> None:
    thread = await storage.threads.create(PROJECT, {"a": "1"}, NOTHING, [])
    modified = await storage.threads.modify(PROJECT, thread.id, {"metadata_": {}})
    assert (modified.metadata_, modified.tool_resources) == ({}, {})
    resources: dict[str, Any] = {"file_search": {"vector_store_ids": []}}
    await storage.threads.modify(PROJECT, thread.id, {"tool_resources": Resources(resources)})
    assert (await storage.threads.get(PROJECT, thread.id)).tool_resources == resources


async def test_a_project_sees_only_its_own(storage: Storage) -> None:
    thread = await make_thread(storage)
    new = new_run(assistant_id=(await storage.assistants.create(OTHER, assistant_values())).id)
    for attempt in (
        storage.threads.get(OTHER, thread.id),
        storage.threads.modify(OTHER, thread.id, {"metadata_": {"a": "1"}}),
        storage.threads.delete(OTHER, thread.id),
        storage.messages.create(OTHER, thread.id, user("hi")),
        storage.messages.list(OTHER, thread.id, PageRequest()),
        storage.runs.create(OTHER, thread.id, new, []),
        storage.runs.list(OTHER, thread.id, PageRequest()),
    ):
        with pytest.raises(NotFound) as error:
            await attempt
        assert (error.value.kind, error.value.id) == ("thread", thread.id)


async def test_delete_takes_everything_along(storage: Storage) -> None:
    thread, other = await make_thread(storage, "hi"), await make_thread(storage, "hi")
    for each in (thread, other):
        claim = await claimed(storage, await make_run(storage, each))
        await start_message(storage, claim)
    await storage.threads.delete(PROJECT, thread.id)
    with pytest.raises(NotFound):
        await storage.threads.get(PROJECT, thread.id)
    counts = [await _count(storage, table) for table in (Thread, Message, Run, RunStep)]
    assert counts == [1, 2, 1, 1]


async def test_delete_returns_the_active_run_as_cancelled(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    run = await make_run(storage, thread)
    claim = await claimed(storage, run)
    step, message = await start_message(storage, claim)
    [ended] = await storage.threads.delete(PROJECT, thread.id)
    assert (ended.run.id, ended.run.status, ended.run.expires_at) == (run.id, "cancelled", None)
    assert ended.run.cancelled_at is not None
    assert [(each.id, each.status) for each in ended.steps] == [(step.id, "cancelled")]
    assert [(each.id, each.status, each.incomplete_reason) for each in ended.messages] == [
        (message.id, "incomplete", "run_cancelled")
    ]


async def test_delete_of_an_idle_thread_cancels_nothing(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    assert await storage.threads.delete(PROJECT, thread.id) == []
    with pytest.raises(NotFound):
        await storage.threads.delete(PROJECT, thread.id)


async def test_a_run_is_created_with_its_thread(storage: Storage) -> None:
    await make_assistant(storage)
    created = await storage.runs.create_with_thread(
        PROJECT, {"k": "v"}, NOTHING, [user("hi")], new_run()
    )
    thread, run = created.thread, created.run
    assert thread is not None
    assert (run.thread_id, run.status) == (thread.id, "queued")
    assert await storage.threads.get(PROJECT, thread.id) == thread
    [message] = (await storage.messages.list(PROJECT, thread.id, PageRequest())).data
    assert message.position == run.context_until < run.position == thread.last_position
