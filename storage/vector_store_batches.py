"""Batches: files that were put into a vector store by one call."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from storage import entries, ids, pages, store_lock, tables
from storage.entries import NewEntry
from storage.file_tables import EntryStatus
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.repository import Repository, gets, writes
from storage.rows import VectorStoreBatch, VectorStoreFile, table
from storage.statements import Statement, one_of, param
from storage.transaction import Transaction
from storage.vector_store_files import Entry

_TABLE = table(tables.VectorStoreBatch)
_ENTRIES = entries.TABLE
GET = Statement(
    sa.select(_TABLE).where(
        _TABLE.c.vector_store_id == param("vector_store_id"), _TABLE.c.id == param("id")
    ),
    VectorStoreBatch,
)
_IN_BATCH = _ENTRIES.c.batch_id == param("batch_id")
LIST = pages.List(VectorStoreFile, None, _IN_BATCH, key="file_id")
LIST_OF_STATUS = pages.List(
    VectorStoreFile, None, _IN_BATCH, _ENTRIES.c.status == param("status"), key="file_id"
)
# Whoever indexes one of them has lost it. What was indexed before, and is again, goes on.
CANCEL: Statement[Any] = Statement(
    sa.update(_ENTRIES)
    .where(
        _IN_BATCH,
        one_of(_ENTRIES.c.status, [EntryStatus.in_progress]),
        _ENTRIES.c.segment.is_(None),
    )
    .values(
        status=sa.literal(str(EntryStatus.cancelled)),
        attempt=_ENTRIES.c.attempt + sa.literal(1),
        lease_until=sa.null(),
    )
)


class VectorStoreBatches(Repository):
    """Batches of a project's vector stores."""

    @writes
    def create(self, tx: Transaction, store_id: str, files: Sequence[NewEntry]) -> VectorStoreBatch:
        """Puts files, each once, into a vector store.

        Raises NotFound (the vector store, a file), StoreExpired, StoreFull.
        """
        store_lock.find(tx, store_id)
        store_lock.lock_files(tx, [each.file_id for each in files])
        store = store_lock.lock_open(tx, store_id)
        now = tx.now()
        batch = VectorStoreBatch(
            id=ids.new_id(ids.BATCH),
            project_id=store.project_id,
            vector_store_id=store.id,
            created_at=int(now),
        )
        tx.insert(batch)
        entries.add(tx, store, files, now, batch.id)
        return _one(tx, store_id, batch.id)

    @gets
    def get(self, tx: Transaction, store_id: str, batch_id: str) -> VectorStoreBatch:
        """Returns a batch. Raises NotFound (the vector store, the batch)."""
        if store_lock.find(tx, store_id).expired:
            return _emptied(_one(tx, store_id, batch_id))
        return _one(tx, store_id, batch_id)

    @writes
    def cancel(self, tx: Transaction, store_id: str, batch_id: str) -> VectorStoreBatch:
        """Cancels the files of a batch that are in progress; a batch without any stays as it is.

        Those that are indexed again go on. Raises NotFound, StoreExpired.
        """
        store_lock.lock_open(tx, store_id)
        batch = _one(tx, store_id, batch_id)
        cancelled = tx.run(CANCEL, batch_id=batch_id)
        if not cancelled:
            return batch
        change = {
            str(EntryStatus.in_progress): -cancelled,
            str(EntryStatus.cancelled): cancelled,
        }
        store_lock.count(tx, store_id, change)
        store_lock.count_batch(tx, batch_id, change)
        return tx.update(batch, is_cancelled=True)

    @gets
    def files(
        self,
        tx: Transaction,
        store_id: str,
        batch_id: str,
        page: PageRequest,
        status: str | None = None,
    ) -> Page[Entry]:
        """Returns a page of a batch's files, or of those of a status.

        Raises NotFound (the vector store, the batch), InvalidCursor.
        """
        expired = store_lock.find(tx, store_id).expired
        _one(tx, store_id, batch_id)
        if expired:
            return Page([], False)
        if status is None:
            found = LIST.page(tx, page, batch_id=batch_id)
        else:
            found = LIST_OF_STATUS.page(tx, page, batch_id=batch_id, status=status)
        return Page([Entry(row) for row in found.data], found.has_more)


def _one(tx: Transaction, store_id: str, batch_id: str) -> VectorStoreBatch:
    return by_id(tx, GET, "batch", batch_id, vector_store_id=store_id)


def _emptied(batch: VectorStoreBatch) -> VectorStoreBatch:
    for status in EntryStatus:
        setattr(batch, status, 0)
    return batch
