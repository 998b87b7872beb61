"""The library of a server, on both databases: its worker, its search and its sweep together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.files import worker
from service.files.blobs.folder import FolderBlobs
from service.files.chunking import Chunk
from service.files.embeddings import EmbeddingFailed, Matrix
from service.files.embeddings.static import StaticEmbedder
from service.files.library import Library
from storage import Storage, ids
from storage.attachments import AUTO
from storage.entries import NewEntry
from storage.files import NewBlob
from tests.support.files.stored import stored
from tests.support.storage.rows import PROJECT

MAX_BYTES = 2**21
FOXES = b"Foxes eat berries, mice and beetles. " * 50


class Embeddings(StaticEmbedder):
    """Vectors that are not always to be had."""

    away = False
    asked = 0

    async def documents(self, chunks: Sequence[Chunk]) -> Matrix:
        """Returns the vector of each chunk, unless it is away."""
        self.asked += 1
        if self.away:
            raise EmbeddingFailed("away")
        return await super().documents(chunks)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A library that works, and short ways to what it works on."""

    storage: Storage
    blobs: FolderBlobs
    library: Library
    embeddings: Embeddings

    async def upload(self, name: str, data: bytes) -> str:
        """Makes a file; returns its id."""
        return await self.file(name, await stored(self.blobs, data))

    async def file(self, name: str, blob: NewBlob) -> str:
        """Makes a file of a blob, be it there or not; returns its id."""
        values = {"filename": name, "purpose": "assistants", "expires_after": None}
        return str((await self.storage.files.create(PROJECT, values, blob)).id)

    async def store(self, *file_ids: str) -> str:
        """Makes a vector store of files; returns its id."""
        new = [NewEntry(id, AUTO, {}) for id in file_ids]
        store = await self.storage.vector_stores.create(PROJECT, {"metadata_": {}}, new)
        self.library.wake()
        return str(store.id)

    async def indexed(self, store_id: str) -> Any:
        """Returns a vector store when nothing of it is in progress."""
        async with asyncio.timeout(60):
            while (store := await self.storage.vector_stores.get(PROJECT, store_id)).in_progress:
                await asyncio.sleep(0.02)
        return store

    async def found(self, store_id: str, query: str) -> list[str]:
        """Returns the names of the files that a search finds, the best first."""
        store = await self.storage.vector_stores.get(PROJECT, store_id)
        results = await self.library.search.search(PROJECT, [store], [query], 50)
        return list(dict.fromkeys(each.filename for each in results))


@pytest.fixture
async def shelf(storage: Storage, tmp_path: Path) -> AsyncIterator[Shelf]:
    """A library that works, with claims that hold until it ends."""

    async def same(queries: Sequence[str]) -> Sequence[str]:
        return queries

    blobs, embeddings = FolderBlobs(tmp_path / "blobs"), Embeddings()
    library = Library(
        storage,
        blobs,
        embeddings,
        same,
        concurrency=2,
        lease_seconds=3600,
        max_bytes=MAX_BYTES,
    )
    work = asyncio.create_task(library.work())
    yield Shelf(storage, blobs, library, embeddings)
    # At the same time: it ends all the same.
    library.wake()
    work.cancel()
    await asyncio.wait([work], timeout=60)
    assert work.cancelled()
    await library.close()
    await blobs.close()


async def test_files_are_indexed_and_found(shelf: Shelf) -> None:
    foxes = await shelf.upload("foxes.txt", FOXES)
    paris = await shelf.upload("paris.html", b"<html><p>The capital of France is Paris.</p></html>")
    empty = await shelf.upload("empty.txt", b"")
    store = await shelf.store(foxes, paris, empty)
    ended = await shelf.indexed(store)
    assert (ended.completed, ended.failed, ended.embedder) == (2, 1, StaticEmbedder().name)
    assert (await shelf.found(store, "what do foxes eat"))[0] == "foxes.txt"
    assert (await shelf.found(store, "capital of France"))[0] == "paris.html"
    text = await shelf.storage.vector_store_files.text(PROJECT, store, foxes)
    assert "".join(text.stretches).encode() == FOXES
    await shelf.storage.files.delete(PROJECT, foxes)
    assert "foxes.txt" not in await shelf.found(store, "what do foxes eat")
    assert (await shelf.indexed(store)).completed == 1


async def test_a_file_that_is_too_large_is_not_read(shelf: Shelf) -> None:
    fits = await shelf.upload("fits.txt", b" " * MAX_BYTES)
    # It has no bytes: to read them would fail otherwise, and again and again.
    large = await shelf.file("large.txt", NewBlob(ids.new_id(ids.BLOB), MAX_BYTES + 1))
    store = await shelf.store(fits, large)
    assert (await shelf.indexed(store)).failed == 2
    entries = shelf.storage.vector_store_files
    errors = [(await entries.get(PROJECT, store, id)).row.last_error for id in (fits, large)]
    assert errors == [
        {"code": "invalid_file", "message": f"The file could not be parsed because it is {why}."}
        for why in ("empty", "too large")
    ]


async def test_a_store_is_found_while_it_is_indexed_again(shelf: Shelf) -> None:
    store = await shelf.store(await shelf.upload("foxes.txt", FOXES))
    before = await shelf.indexed(store)
    assert await shelf.storage.entry_claims.reindex(PROJECT, store) == 1
    assert await shelf.found(store, "berries") == ["foxes.txt"]
    after = await shelf.indexed(store)
    assert (after.completed, after.usage_bytes) == (1, before.usage_bytes)
    assert await shelf.found(store, "berries") == ["foxes.txt"]


async def test_what_is_indexed_again_waits_for_embeddings(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSE", 0.01)
    store = await shelf.store(await shelf.upload("foxes.txt", FOXES))
    before = await shelf.indexed(store)
    shelf.embeddings.away = True
    assert await shelf.storage.entry_claims.reindex(PROJECT, store) == 1
    asked = shelf.embeddings.asked
    async with asyncio.timeout(60):
        # More often than a file may crash.
        while shelf.embeddings.asked < asked + 5:
            await asyncio.sleep(0.02)
    assert await shelf.found(store, "berries") == ["foxes.txt"]
    assert (await shelf.storage.vector_stores.get(PROJECT, store)).in_progress == 1
    shelf.embeddings.away = False
    after = await shelf.indexed(store)
    assert (after.completed, after.usage_bytes) == (1, before.usage_bytes)


async def test_an_attempt_that_lost_its_claim_ends(shelf: Shelf) -> None:
    long = " ".join(f"word{number} stands here." for number in range(60_000)).encode()
    store = await shelf.store()
    file = await shelf.upload("long.txt", long)
    batch = await shelf.storage.vector_store_batches.create(
        PROJECT, store, [NewEntry(file, AUTO, {})]
    )
    shelf.library.wake()
    async with asyncio.timeout(60):
        while not await shelf.storage.segments.orphans(-3600):
            await asyncio.sleep(0.02)
    await shelf.storage.vector_store_batches.cancel(PROJECT, store, batch.id)
    # What it has written goes, and others have its place.
    async with asyncio.timeout(60):
        while await shelf.storage.segments.orphans(-3600):
            await asyncio.sleep(0.02)
    others = [await shelf.upload(f"{number}.txt", FOXES) for number in range(3)]
    store = await shelf.store(*others)
    assert (await shelf.indexed(store)).completed == 3


async def test_a_store_expires(shelf: Shelf) -> None:
    store = await shelf.store(await shelf.upload("foxes.txt", FOXES))
    await shelf.indexed(store)
    past = {"expires_after": {"anchor": "last_active_at", "days": -1}}
    await shelf.storage.vector_stores.modify(PROJECT, store, past)
    found = await shelf.storage.vector_stores.get(PROJECT, store)
    assert (found.expired, found.completed, found.usage_bytes) == (True, 0, 0)
    async with asyncio.timeout(60):
        while await shelf.storage.vector_stores.due():
            await asyncio.sleep(0.02)
        while await shelf.storage.segments.orphans(-3600):
            await asyncio.sleep(0.02)
    assert await shelf.found(store, "berries") == []
    assert (await shelf.storage.vector_stores.get(PROJECT, store)).expired
