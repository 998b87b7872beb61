"""Tool resources of assistants and threads: what they name exists, and goes with the last one."""

import asyncio
from typing import Any

import pytest
from sqlmodel import col, delete, update

from storage import Storage, tables
from storage.attachments import AUTO, NewMessage
from storage.entries import NewEntry
from storage.errors import NotFound, StoreExpired, StoreExpiredForRun
from storage.resources import NOTHING, NewStore, Resources
from storage.rows import Run, Thread, VectorStore
from tests.support.storage.rows import (
    PROJECT,
    assistant_values,
    execute,
    make_file,
    make_thread,
    new_run,
    text_part,
)

SEARCH: list[dict[str, Any]] = [{"type": "file_search"}]
CODE: list[dict[str, Any]] = [{"type": "code_interpreter"}]


def attached(file_id: str, tools: list[dict[str, Any]]) -> NewMessage:
    return NewMessage("user", [text_part("Hi")], [{"file_id": file_id, "tools": tools}])


def searching(*store_ids: str) -> Resources:
    return Resources({"file_search": {"vector_store_ids": [*store_ids]}})


def coding(*file_ids: str) -> Resources:
    return Resources({"code_interpreter": {"file_ids": [*file_ids]}})


async def store_of(storage: Storage, thread: Thread) -> VectorStore:
    """Returns the only vector store of a thread."""
    thread = await storage.threads.get(PROJECT, thread.id)
    [id] = thread.tool_resources["file_search"]["vector_store_ids"]
    return await storage.vector_stores.get(PROJECT, id)


async def expire(storage: Storage, store_id: str) -> None:
    of_store = col(tables.VectorStore.id) == store_id
    await execute(storage, update(tables.VectorStore).where(of_store).values(expires_at=1))


async def test_what_is_named_must_exist(storage: Storage) -> None:
    for resources in (searching("vs_x"), coding("file-x")):
        values = assistant_values() | {"tool_resources": resources}
        with pytest.raises(NotFound):
            await storage.assistants.create(PROJECT, values)
        with pytest.raises(NotFound):
            await storage.threads.create(PROJECT, {}, resources, [])
        assistant, thread = (
            await storage.assistants.create(PROJECT, assistant_values()),
            await make_thread(storage),
        )
        for modify, id in (
            (storage.assistants.modify, assistant.id),
            (storage.threads.modify, thread.id),
        ):
            with pytest.raises(NotFound):
                await modify(PROJECT, id, {"tool_resources": resources})


async def test_a_tool_that_is_given_replaces_that_tool_s(storage: Storage) -> None:
    file, store = (
        await make_file(storage),
        await storage.vector_stores.create(PROJECT, {"metadata_": {}}, []),
    )
    thread = await storage.threads.create(PROJECT, {}, coding(file), [])
    both = await storage.threads.modify(PROJECT, thread.id, {"tool_resources": searching(store.id)})
    assert both.tool_resources == {**coding(file).given, **searching(store.id).given}
    one = await storage.threads.modify(PROJECT, thread.id, {"tool_resources": coding()})
    assert one.tool_resources == {**coding().given, **searching(store.id).given}
    none = await storage.threads.modify(PROJECT, thread.id, {"tool_resources": NOTHING})
    assert none.tool_resources == {}


async def test_stores_that_are_made_along(storage: Storage) -> None:
    new = NewStore({"a": "b"}, [NewEntry(await make_file(storage), AUTO, {})])
    thread = await storage.threads.create(PROJECT, {}, Resources(new_store=new), [])
    store = await store_of(storage, thread)
    assert (store.metadata_, store.in_progress, store.of_thread) == ({"a": "b"}, 1, True)
    assert store.expires_at == store.last_active_at + 7 * 86_400
    values = assistant_values() | {"tool_resources": Resources(new_store=new)}
    assistant = await storage.assistants.create(PROJECT, values)
    [id] = assistant.tool_resources["file_search"]["vector_store_ids"]
    own = await storage.vector_stores.get(PROJECT, id)
    assert (own.expires_at, own.of_thread) == (None, False)
    # A thread's goes with it, an assistant's does not.
    await storage.threads.delete(PROJECT, thread.id)
    await storage.assistants.delete(PROJECT, assistant.id)
    assert await storage.vector_stores.get(PROJECT, own.id) == own
    with pytest.raises(NotFound):
        await storage.vector_stores.get(PROJECT, store.id)


async def test_a_store_stays_while_something_names_it(storage: Storage) -> None:
    thread = await make_thread(storage)
    file = await make_file(storage)
    await storage.messages.create(PROJECT, thread.id, attached(file, SEARCH))
    store = await store_of(storage, thread)
    copy = await storage.threads.copy(PROJECT, thread.id)
    values = assistant_values() | {"tool_resources": searching(store.id)}
    assistant = await storage.assistants.create(PROJECT, values)
    await storage.threads.delete(PROJECT, thread.id)
    await storage.threads.delete(PROJECT, copy.id)
    assert await storage.vector_stores.get(PROJECT, store.id)
    # Nobody makes the assistant's go.
    await storage.assistants.modify(PROJECT, assistant.id, {"tool_resources": NOTHING})
    assert await storage.vector_stores.get(PROJECT, store.id)


async def test_attachments_go_to_the_tools_of_their_thread(storage: Storage) -> None:
    first, second, third = [await make_file(storage) for _ in range(3)]
    thread = await storage.threads.create(PROJECT, {}, NOTHING, [attached(first, SEARCH)])
    await storage.messages.create(PROJECT, thread.id, attached(second, SEARCH + CODE))
    created = await storage.runs.create(
        PROJECT,
        thread.id,
        new_run(assistant_id=(await storage.assistants.create(PROJECT, assistant_values())).id),
        [attached(third, CODE), attached(first, SEARCH)],
    )
    # Else the thread would be locked.
    await execute(storage, delete(tables.Run).where(col(tables.Run.id) == created.run.id))
    store = await store_of(storage, thread)
    assert store.in_progress == 2
    found = await storage.threads.get(PROJECT, thread.id)
    assert found.tool_resources["code_interpreter"] == {"file_ids": [second, third]}
    for message in (attached("file-x", SEARCH), attached("file-x", [])):
        with pytest.raises(NotFound):
            await storage.messages.create(PROJECT, thread.id, message)
    await expire(storage, store.id)
    with pytest.raises(StoreExpired):
        await storage.messages.create(PROJECT, thread.id, attached(first, SEARCH))


async def test_files_leave_the_code_interpreter_of_assistants_and_threads(storage: Storage) -> None:
    gone, kept = await make_file(storage), await make_file(storage)
    values = assistant_values() | {"tool_resources": coding(gone, kept)}
    assistant = await storage.assistants.create(PROJECT, values)
    thread = await storage.threads.create(PROJECT, {}, coding(gone), [attached(kept, CODE)])
    await storage.files.delete(PROJECT, gone)
    for found in (
        await storage.assistants.get(PROJECT, assistant.id),
        await storage.threads.get(PROJECT, thread.id),
    ):
        assert found.tool_resources == coding(kept).given


async def test_the_use_of_a_vector_store_is_noted_once_a_second(storage: Storage) -> None:
    stores = storage.vector_stores
    store = await stores.create(PROJECT, {"metadata_": {}}, [])
    await execute(storage, update(tables.VectorStore).values(last_active_at=1))
    assert (await stores.open(PROJECT, store.id))[1]

    async def noted() -> bool:
        await stores.use(PROJECT, [store.id])
        return not (await stores.open(PROJECT, store.id))[1]

    # A second may end in between.
    assert any([await noted() for _ in range(3)])


async def test_runs_search_where_their_assistant_and_their_thread_do(storage: Storage) -> None:
    store = await storage.vector_stores.create(PROJECT, {"metadata_": {}}, [])
    new = new_run(assistant_id=(await storage.assistants.create(PROJECT, assistant_values())).id)
    values = {"tools": SEARCH, "tool_resources": searching(store.id).given}
    thread = await storage.threads.create(
        PROJECT, {}, NOTHING, [attached(await make_file(storage), SEARCH)]
    )
    own = await store_of(storage, thread)
    run = Run(**{"project_id": PROJECT, "thread_id": thread.id, **_blank(), **values})
    found = await storage.vector_stores.of_run(run)
    assert [each.id for each in found] == [store.id, own.id]
    await expire(storage, own.id)
    found = await storage.vector_stores.of_run(run)
    assert [each.id for each in found] == [store.id]
    searches = new_run(assistant_id=new.assistant_id, tools=SEARCH)
    with pytest.raises(StoreExpiredForRun):
        await storage.runs.create(PROJECT, thread.id, searches, [])
    # One that does not search does not mind.
    created = await storage.runs.create(PROJECT, thread.id, new, [])
    await storage.runs.cancel(PROJECT, thread.id, created.run.id)
    await storage.vector_stores.delete(PROJECT, own.id)
    with pytest.raises(NotFound, match=own.id):
        await storage.runs.create(PROJECT, thread.id, searches, [], queue=True)


def _blank() -> dict[str, Any]:
    names = ("id", "position", "assistant_id", "status", "context_until", "model", "instructions")
    texts = dict.fromkeys(names, "")
    others = {"created_at": 0, "queued_at": 0.0, "metadata_": {}, "truncation_strategy": {}}
    return {**texts, **others, "response_format": "auto"}


async def test_deletions_and_attachments_at_the_same_time(storage: Storage) -> None:
    """Whatever comes first: nothing waits for ever, and nothing names what is gone."""
    thread = await make_thread(storage)
    for _ in range(5):
        files = [await make_file(storage) for _ in range(4)]
        calls = [
            *(storage.files.delete(PROJECT, each) for each in files),
            *(
                storage.messages.create(PROJECT, thread.id, attached(each, SEARCH + CODE))
                for each in files
            ),
        ]
        async with asyncio.timeout(60):
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended if isinstance(each, BaseException)} <= {NotFound}
    found = await storage.threads.get(PROJECT, thread.id)
    assert found.tool_resources.get("code_interpreter", {"file_ids": []}) == {"file_ids": []}
    if "file_search" in found.tool_resources:
        store = await store_of(storage, thread)
        assert (store.in_progress, store.usage_bytes) == (0, 0)
