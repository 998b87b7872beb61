"""What storage can do with vector stores, done once: see tests/support/storage/everything.py."""

import pytest
from sqlmodel import col, update

from storage import Storage, file_uses
from storage.attachments import AUTO
from storage.entries import NewEntry
from storage.errors import FilesNotReady
from storage.messages import NewMessage
from storage.pages import PageRequest
from storage.resources import NOTHING, Resources
from storage.segments import NewChunk
from storage.tables import VectorStore
from tests.support.storage.rows import (
    PROJECT,
    assistant_values,
    execute,
    make_file,
    make_run,
    new_run,
    text_part,
)


def _new(*file_ids: str) -> list[NewEntry]:
    return [NewEntry(id, AUTO, {}) for id in file_ids]


async def vector_stores(storage: Storage) -> None:
    """Calls what there is for vector stores, their files and batches."""
    files = [await make_file(storage) for _ in range(3)]
    stores, entries, batches = (
        storage.vector_stores,
        storage.vector_store_files,
        storage.vector_store_batches,
    )
    values = {"metadata_": {}, "expires_after": {"anchor": "last_active_at", "days": 1}}
    store = await stores.create(PROJECT, values, _new(*files))
    await stores.get(PROJECT, store.id)
    await stores.list(PROJECT, PageRequest())
    await stores.modify(PROJECT, store.id, {"name": "n", "expires_after": None})
    await stores.open(PROJECT, store.id)
    await stores.use(PROJECT, [store.id])
    await entries.names(PROJECT, files)
    await entries.create(PROJECT, store.id, *_new(files[0]))
    await entries.get(PROJECT, store.id, files[0])
    await entries.list(PROJECT, store.id, PageRequest())
    await entries.list(PROJECT, store.id, PageRequest(), "completed")
    await entries.modify(PROJECT, store.id, files[0], {"attributes": {"a": 1}})
    batch = await batches.create(PROJECT, store.id, _new(*files[:2]))
    await batches.get(PROJECT, store.id, batch.id)
    await batches.files(PROJECT, store.id, batch.id, PageRequest())
    await batches.files(PROJECT, store.id, batch.id, PageRequest(), "failed")
    await batches.cancel(PROJECT, store.id, batch.id)
    await entries.delete(PROJECT, store.id, files[2])
    await stores.due()
    await stores.delete(PROJECT, store.id)
    store = await stores.create(PROJECT, values, _new(*files))
    past = update(VectorStore).where(col(VectorStore.id) == store.id).values(expires_at=1)
    await execute(storage, past)
    assert await stores.due() == [(PROJECT, store.id)]
    await stores.expire(PROJECT, store.id)


async def indexing(storage: Storage) -> None:
    """Calls what indexers call."""
    files = [await make_file(storage) for _ in range(4)]
    store = await storage.vector_stores.create(PROJECT, {"metadata_": {}}, _new(*files))
    claims = storage.entry_claims
    first, second, third, fourth = await claims.claim(10)
    assert await claims.renew(first)
    await claims.release(second)
    for claim, embedder in ((first, "one"), (third, "two")):
        segment = await storage.segments.begin(PROJECT, store.id, embedder)
        chunk = [NewChunk(0, 1, "text")]
        await storage.segments.add(PROJECT, segment, 0, chunk, lambda tx, first: 0)
        assert await claims.complete(claim, segment)
    assert await claims.fail(fourth, {"code": "server_error", "message": "m"})
    await storage.vector_store_files.text(PROJECT, store.id, first.row.file_id)
    assert await claims.stale("two") == [(PROJECT, store.id)]
    assert await claims.reindex(PROJECT, store.id) == 2
    for each in await claims.claim(10):
        await claims.put_off(each, 30)
    await storage.segments.abandon([segment])


async def resources(storage: Storage) -> None:
    """Has assistants, threads and messages name files and vector stores."""
    file_id = await make_file(storage)
    code, search = {"code_interpreter": {"file_ids": [file_id]}}, "file_search"
    store = await storage.vector_stores.create(PROJECT, {"metadata_": {}}, [])
    named = Resources({**code, search: {"vector_store_ids": [store.id]}})
    attached = [{"file_id": file_id, "tools": [{"type": search}]}]
    values = assistant_values() | {"tool_resources": named}
    assistant = await storage.assistants.create(PROJECT, values)
    await storage.assistants.modify(PROJECT, assistant.id, {"tool_resources": named})
    thread = await storage.threads.create(
        PROJECT, {}, NOTHING, [NewMessage("user", [text_part("Hi")], attached)]
    )
    await storage.threads.modify(PROJECT, thread.id, {"tool_resources": named})
    run = await make_run(storage, thread)
    await storage.vector_stores.of_run(run)
    message = NewMessage("user", [text_part("Hi")], attached)
    waiting = await storage.threads.create(PROJECT, {}, NOTHING, [message])
    searches = new_run(tools=[{"type": search}])
    run = (await storage.runs.create(PROJECT, waiting.id, searches, [])).run
    with pytest.raises(FilesNotReady):
        await storage.claims.claim(run.id)
    other = await storage.threads.create(PROJECT, {}, Resources(code), [])
    await storage.database.write(lambda tx: file_uses.leave(tx, file_id), PROJECT)
    for each in (thread, other):
        await storage.threads.delete(PROJECT, each.id)
    await storage.assistants.delete(PROJECT, assistant.id)
