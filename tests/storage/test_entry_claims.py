"""Files of vector stores as indexers see them: claims, leases, crashes, and what is counted."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, update

from storage import Storage, tables
from storage.attachments import AUTO
from storage.database import Database
from storage.entries import NewEntry
from storage.entry_claims import EntryClaim
from storage.errors import StoreFull
from storage.file_tables import EntryStatus
from storage.rows import VectorStore, table
from storage.segments import NewChunk
from tests.support.storage.rows import PROJECT, execute, fetch, fill_store, make_file

ERROR = {"code": "invalid_file", "message": "m"}


@pytest.fixture
async def brief(database_url: str) -> AsyncIterator[Storage]:
    """Storage whose leases run out at once."""
    database = Database(database_url)
    yield Storage(database, lease_seconds=0.0)
    await database.close()


async def make_store(storage: Storage, files: int = 1) -> VectorStore:
    """Makes a vector store of so many files."""
    new = [NewEntry(await make_file(storage), AUTO, {}) for _ in range(files)]
    return await storage.vector_stores.create(PROJECT, {"metadata_": {}}, new)


async def segment_of(storage: Storage, claim: EntryClaim, embedder: str = "one") -> int:
    """Builds a segment of one chunk."""
    segment = await storage.segments.begin(PROJECT, claim.row.vector_store_id, embedder)
    chunks = [NewChunk(0, 1, "some words")]
    await storage.segments.add(PROJECT, segment, 0, chunks, lambda tx, first: 100)
    return segment


async def counted(storage: Storage, store: VectorStore) -> dict[str, int]:
    """Returns what a vector store counts, which is what there is."""
    found = await storage.vector_stores.get(PROJECT, store.id)
    counts = {str(status): int(getattr(found, status)) for status in EntryStatus}
    entries = table(tables.VectorStoreFile)
    rows = await fetch(
        storage,
        sa.select(entries.c.status, sa.func.count(), sa.func.sum(entries.c.usage_bytes))
        .where(entries.c.vector_store_id == store.id)
        .group_by(entries.c.status),
    )
    there = {status: count for status, count, _ in rows}
    assert {status: count for status, count in counts.items() if count} == there
    assert found.usage_bytes == sum(int(size) for *_, size in rows)
    return {status: count for status, count in counts.items() if count}


async def test_an_entry_is_claimed_once(storage: Storage) -> None:
    store = await make_store(storage, 3)
    first = await storage.entry_claims.claim(2)
    assert [each.row.attempt for each in first] == [1, 1]
    assert len(await storage.entry_claims.claim(5)) == 1
    assert await storage.entry_claims.claim(5) == []
    await storage.entry_claims.release(first[0])
    [again] = await storage.entry_claims.claim(5)
    assert (again.row.id, again.row.crashes) == (first[0].row.id, 0)
    assert not await storage.entry_claims.renew(first[0])
    assert await storage.entry_claims.renew(again)
    assert await counted(storage, store) == {"in_progress": 3}


async def test_what_is_whole_can_be_searched(storage: Storage) -> None:
    store = await make_store(storage, 2)
    done, failed = await storage.entry_claims.claim(2)
    segment = await segment_of(storage, done)
    assert await storage.entry_claims.complete(done, segment)
    assert await storage.entry_claims.fail(failed, ERROR)
    assert await counted(storage, store) == {"completed": 1, "failed": 1}
    found = await storage.vector_stores.get(PROJECT, store.id)
    assert (found.embedder, found.usage_bytes) == ("one", 110)
    entry = await storage.vector_store_files.get(PROJECT, store.id, failed.row.file_id)
    assert (entry.row.status, entry.row.last_error) == ("failed", ERROR)
    # Once and no more.
    assert not await storage.entry_claims.fail(done, ERROR)
    assert not await storage.entry_claims.complete(failed, segment)
    text = await storage.vector_store_files.text(PROJECT, store.id, done.row.file_id)
    assert text.stretches == ["some words"]


async def test_a_crash_is_taken_up_again_but_not_the_third(brief: Storage) -> None:
    store = await make_store(brief)
    for crashes in (0, 1, 2):
        [claim] = await brief.entry_claims.claim(1)
        assert (claim.row.attempt, claim.row.crashes) == (crashes + 1, crashes)
        assert not claim.hopeless
    [last] = await brief.entry_claims.claim(1)
    assert last.hopeless
    # Who held it before can do no harm.
    assert not await brief.entry_claims.complete(claim, await segment_of(brief, claim))
    assert await brief.entry_claims.fail(last, ERROR)
    assert await counted(brief, store) == {"failed": 1}


async def test_what_is_taken_out_is_lost_to_who_indexes_it(storage: Storage) -> None:
    store = await make_store(storage, 4)
    claims = await storage.entry_claims.claim(4)
    deleted, replaced, cancelled, expired = claims
    segments = [await segment_of(storage, each) for each in claims]
    stores, files = storage.vector_stores, storage.vector_store_files
    await files.delete(PROJECT, store.id, deleted.row.file_id)
    await files.create(PROJECT, store.id, NewEntry(replaced.row.file_id, AUTO, {}))
    batches = storage.vector_store_batches
    batch = await batches.create(PROJECT, store.id, [NewEntry(cancelled.row.file_id, AUTO, {})])
    [claimed] = [
        each
        for each in await storage.entry_claims.claim(5)
        if each.row.file_id == cancelled.row.file_id
    ]
    ended = await batches.cancel(PROJECT, store.id, batch.id)
    assert (ended.is_cancelled, ended.cancelled, ended.in_progress) == (True, 1, 0)
    assert await counted(storage, store) == {"in_progress": 2, "cancelled": 1}
    for claim, segment in zip([deleted, replaced, claimed], segments, strict=False):
        assert not await storage.entry_claims.renew(claim)
        assert not await storage.entry_claims.complete(claim, segment)
    await execute(
        storage,
        update(tables.VectorStore)
        .where(col(tables.VectorStore.id) == store.id)
        .values(expires_at=1),
    )
    assert not await storage.entry_claims.complete(expired, segments[3])
    await stores.expire(PROJECT, store.id)
    assert await counted(storage, store) == {}
    await stores.delete(PROJECT, store.id)
    assert not await storage.entry_claims.fail(expired, ERROR)


async def test_a_vector_store_has_the_embedder_that_all_its_files_have(storage: Storage) -> None:
    store = await make_store(storage, 2)
    one, two = await storage.entry_claims.claim(2)
    assert await storage.entry_claims.complete(one, await segment_of(storage, one, "one"))
    assert await storage.entry_claims.complete(two, await segment_of(storage, two, "two"))

    async def embedder() -> Any:
        return (await storage.vector_stores.get(PROJECT, store.id)).embedder

    assert await embedder() == "one"
    assert await storage.entry_claims.stale("one") == []
    assert await storage.entry_claims.stale("two") == [(PROJECT, store.id)]
    assert await storage.entry_claims.reindex(PROJECT, store.id) == 2
    assert await counted(storage, store) == {"in_progress": 2}
    for claim, expected in zip(await storage.entry_claims.claim(2), ("one", "two"), strict=True):
        # Until then, it is found as before.
        assert claim.row.segment is not None
        assert await storage.entry_claims.complete(claim, await segment_of(storage, claim, "two"))
        assert await embedder() in (expected, "two")
    assert await embedder() == "two"
    assert await counted(storage, store) == {"completed": 2}
    # What they had before goes.
    assert len(await storage.segments.orphans(3600)) == 2


async def test_what_is_put_off_waits_behind_others_and_has_not_crashed(storage: Storage) -> None:
    store = await make_store(storage, 2)
    first, second = await storage.entry_claims.claim(2)
    for pause in (-1, -1, -1, -1):
        await storage.entry_claims.put_off(first, pause)
        assert not await storage.entry_claims.renew(first)
        [first] = await storage.entry_claims.claim(2)
        assert (first.row.crashes, first.hopeless) == (0, False)
    await storage.entry_claims.put_off(first, 3600)
    assert await storage.entry_claims.claim(2) == []
    await storage.entry_claims.release(second)
    assert [each.row.id for each in await storage.entry_claims.claim(2)] == [second.row.id]
    # Who has lost it puts off nothing.
    await storage.entry_claims.put_off(first, -1)
    assert await storage.entry_claims.claim(2) == []
    assert await counted(storage, store) == {"in_progress": 2}


async def test_a_batch_that_is_indexed_again_cannot_be_cancelled(storage: Storage) -> None:
    store = await make_store(storage, 0)
    batches = storage.vector_store_batches
    new = [NewEntry(await make_file(storage), AUTO, {})]
    batch = await batches.create(PROJECT, store.id, new)
    [claim] = await storage.entry_claims.claim(1)
    assert await storage.entry_claims.complete(claim, await segment_of(storage, claim))
    assert await storage.entry_claims.reindex(PROJECT, store.id) == 1
    found = await batches.cancel(PROJECT, store.id, batch.id)
    assert (found.is_cancelled, found.cancelled, found.in_progress) == (False, 0, 1)
    [claim] = await storage.entry_claims.claim(1)
    assert await storage.entry_claims.complete(claim, await segment_of(storage, claim))
    assert await counted(storage, store) == {"completed": 1}


async def test_batches_count_what_there_is_of_them(storage: Storage) -> None:
    store = await make_store(storage, 0)
    files = [NewEntry(await make_file(storage), AUTO, {}) for _ in range(3)]
    batches = storage.vector_store_batches
    batch = await batches.create(PROJECT, store.id, files)
    one, two, _ = await storage.entry_claims.claim(3)
    await storage.entry_claims.complete(one, await segment_of(storage, one))
    await storage.entry_claims.fail(two, ERROR)
    found = await batches.get(PROJECT, store.id, batch.id)
    assert (found.completed, found.failed, found.in_progress) == (1, 1, 1)
    await storage.vector_store_files.delete(PROJECT, store.id, one.row.file_id)
    await storage.vector_store_files.create(PROJECT, store.id, files[1])
    found = await batches.get(PROJECT, store.id, batch.id)
    assert (found.completed, found.failed, found.in_progress) == (0, 0, 1)
    assert await counted(storage, store) == {"in_progress": 2}


async def test_a_vector_store_has_10_000_files_at_most(storage: Storage) -> None:
    store = await make_store(storage, 0)
    there = await fill_store(storage, store, 9_999)
    files = storage.vector_store_files
    new = [NewEntry(await make_file(storage), AUTO, {}) for _ in range(2)]
    with pytest.raises(StoreFull):
        await storage.vector_store_batches.create(PROJECT, store.id, new)
    assert await counted(storage, store) == {"completed": 9_999}
    await files.create(PROJECT, store.id, new[0])
    with pytest.raises(StoreFull):
        await files.create(PROJECT, store.id, new[1])
    # One that is there takes its own place, and one that goes leaves it.
    await files.create(PROJECT, store.id, NewEntry(there[0], AUTO, {}))
    await files.delete(PROJECT, store.id, there[1])
    await files.create(PROJECT, store.id, new[1])
    assert await counted(storage, store) == {"completed": 9_997, "in_progress": 3}


async def test_a_file_leaves_all_that_names_it(storage: Storage) -> None:
    stores = [await make_store(storage, 2) for _ in range(2)]
    claims = await storage.entry_claims.claim(4)
    file_id = claims[0].row.file_id
    await storage.entry_claims.complete(claims[0], await segment_of(storage, claims[0]))
    await storage.vector_store_files.create(PROJECT, stores[1].id, NewEntry(file_id, AUTO, {}))
    await storage.files.delete(PROJECT, file_id)
    assert [await counted(storage, each) for each in stores] == [
        {"in_progress": 1},
        {"in_progress": 2},
    ]
    assert len(await storage.segments.orphans(3600)) == 1


async def test_nothing_comes_to_a_segment_that_was_given_up(storage: Storage) -> None:
    store = await make_store(storage)
    (claim,) = await storage.entry_claims.claim(1)
    segment = await segment_of(storage, claim)
    await storage.segments.abandon([segment])
    with pytest.raises(LookupError, match=f"no segment {segment} to add to"):
        await storage.segments.add(PROJECT, segment, 1, [NewChunk(0, 1, "late")], lambda *_: 0)
    assert not await storage.entry_claims.complete(claim, segment)
    assert await counted(storage, store) == {"in_progress": 1}
    assert await storage.segments.orphans(600) == [segment]
    assert await storage.segments.remove(segment, lambda *_: 0)
    assert await storage.segments.chunks(PROJECT, segment, 0, 9) == []
