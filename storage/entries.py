"""Entries of vector stores: putting files in and taking them out, in a transaction.

What a vector store and a batch count changes in the transaction that changes an entry.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import ids, store_lock, tables
from storage.dialects import in_list
from storage.errors import StoreFull
from storage.file_tables import EntryStatus
from storage.rows import VectorStore, VectorStoreFile, table
from storage.segments import abandon
from storage.statements import Statement, param
from storage.transaction import Transaction

MAX_FILES = 10_000
"""Files of a vector store."""

TABLE = table(tables.VectorStoreFile)

OF_FILES = Statement(
    sa.select(TABLE).where(
        TABLE.c.vector_store_id == param("vector_store_id"), in_list(TABLE.c.file_id, "file_ids")
    ),
    VectorStoreFile,
)
OF_STORE = Statement(
    sa.select(TABLE).where(TABLE.c.vector_store_id == param("vector_store_id")), VectorStoreFile
)
DELETE: Statement[Any] = Statement(sa.delete(TABLE).where(in_list(TABLE.c.id, "ids")))


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A file to put into a vector store."""

    file_id: str
    chunking_strategy: Mapping[str, Any]
    attributes: Mapping[str, Any]


def add(
    tx: Transaction,
    store: VectorStore,
    files: Sequence[NewEntry],
    now: float,
    batch_id: str | None = None,
) -> tuple[VectorStore, list[VectorStoreFile]]:
    """Puts files, each once, into a locked vector store, to be indexed; returns both as they are.

    The files are locked too (see store_lock.lock_files). One that is there is replaced. Raises
    StoreFull.
    """
    if not files:
        return store, []
    found = [each.file_id for each in files]
    remove(tx, tx.all(OF_FILES, vector_store_id=store.id, file_ids=found))
    rows = [_row(store, each, now, batch_id) for each in files]
    tx.insert(*rows)
    added = {str(EntryStatus.in_progress): len(rows)}
    counted = store_lock.count(tx, store.id, added)
    assert counted is not None
    if sum(getattr(counted, status) for status in EntryStatus) > MAX_FILES:
        raise StoreFull(store.id, MAX_FILES)
    if batch_id is not None:
        store_lock.count_batch(tx, batch_id, added)
    return counted, rows


def remove(tx: Transaction, rows: Sequence[VectorStoreFile]) -> None:
    """Takes entries out of their vector stores, which are locked."""
    if not rows:
        return
    stores: dict[str, Counter[str]] = {}
    batches: dict[str, Counter[str]] = {}
    for row in rows:
        stores.setdefault(row.vector_store_id, Counter()).subtract(
            {row.status: 1, "usage_bytes": row.usage_bytes}
        )
        if row.batch_id is not None:
            batches.setdefault(row.batch_id, Counter()).subtract({row.status: 1})
    abandon(tx, [row.segment for row in rows if row.segment is not None])
    tx.run(DELETE, ids=[row.id for row in rows])
    for store_id, change in stores.items():
        store_lock.count(tx, store_id, change)
    for batch_id, change in batches.items():
        store_lock.count_batch(tx, batch_id, change)


def count_change(
    tx: Transaction, before: VectorStoreFile, status: EntryStatus, usage_bytes: int
) -> None:
    """Counts that an entry of a locked vector store comes to a status."""
    change = Counter({before.status: -1})
    change[status] += 1
    if before.batch_id is not None:
        store_lock.count_batch(tx, before.batch_id, change)
    change["usage_bytes"] = usage_bytes - before.usage_bytes
    store_lock.count(tx, before.vector_store_id, change)


def _row(store: VectorStore, new: NewEntry, now: float, batch_id: str | None) -> VectorStoreFile:
    position = ids.new_position()
    return VectorStoreFile(
        id=ids.make_id(ids.ENTRY, position),
        project_id=store.project_id,
        vector_store_id=store.id,
        file_id=new.file_id,
        batch_id=batch_id,
        position=position,
        created_at=int(now),
        status=EntryStatus.in_progress,
        queued_at=now,
        attributes=dict(new.attributes),
        chunking_strategy=dict(new.chunking_strategy),
    )
