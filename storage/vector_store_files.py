"""Files of vector stores in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from storage import entries, pages, segments, store_lock, tables
from storage.dialects import in_list
from storage.entries import NewEntry
from storage.errors import NotCompleted, NotInStore
from storage.file_tables import EntryStatus
from storage.pages import Page, PageRequest
from storage.repository import Repository, gets, reads, writes
from storage.rows import VectorStoreFile, table
from storage.segments import MAX_CHUNKS, PORTION_OF
from storage.statements import Statement, param, project
from storage.transaction import Transaction

_TABLE = entries.TABLE
_IN_STORE = _TABLE.c.vector_store_id == param("vector_store_id")
GET = Statement(
    sa.select(_TABLE).where(_IN_STORE, _TABLE.c.file_id == param("id")), VectorStoreFile
)
LIST = pages.List(VectorStoreFile, None, _IN_STORE, key="file_id")
LIST_OF_STATUS = pages.List(
    VectorStoreFile, None, _IN_STORE, _TABLE.c.status == param("status"), key="file_id"
)
_FILES = table(tables.File)
NAMES: Statement[Any] = Statement(
    sa.select(_FILES.c.filename).where(
        _FILES.c.project_id == project(), in_list(_FILES.c.id, "ids")
    )
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a vector store, as callers know it: by the file's id."""

    row: VectorStoreFile

    @property
    def id(self) -> str:
        """The file's id."""
        return self.row.file_id


@dataclass(frozen=True, slots=True)
class Text:
    """The text that was read out of a file, in stretches that follow each other."""

    id: str
    stretches: list[str]


class VectorStoreFiles(Repository):
    """Files of a project's vector stores."""

    @writes
    def create(self, tx: Transaction, store_id: str, new: NewEntry) -> Entry:
        """Puts a file into a vector store, in the place of its entry if it has one.

        Raises NotFound (the vector store, the file), StoreExpired, StoreFull.
        """
        # Ahead of the locks: the path is what is wrong first.
        store_lock.find(tx, store_id)
        store_lock.lock_files(tx, [new.file_id])
        store = store_lock.lock_open(tx, store_id)
        _, [row] = entries.add(tx, store, [new], tx.now())
        return Entry(row)

    @gets
    def get(self, tx: Transaction, store_id: str, file_id: str) -> Entry:
        """Returns a file of a vector store. Raises NotFound, NotInStore."""
        return Entry(_one(tx, store_id, file_id))

    @gets
    def list(
        self, tx: Transaction, store_id: str, page: PageRequest, status: str | None = None
    ) -> Page[Entry]:
        """Returns a page of a vector store's files, or of those of a status.

        Raises NotFound (the vector store), InvalidCursor.
        """
        if store_lock.find(tx, store_id).expired:
            return Page([], False)
        if status is None:
            found = LIST.page(tx, page, vector_store_id=store_id)
        else:
            found = LIST_OF_STATUS.page(tx, page, vector_store_id=store_id, status=status)
        return Page([Entry(row) for row in found.data], found.has_more)

    @writes
    def modify(
        self, tx: Transaction, store_id: str, file_id: str, changes: Mapping[str, Any]
    ) -> Entry:
        """Replaces the given attributes of an entry. Raises NotFound, NotInStore, StoreExpired."""
        store_lock.lock_open(tx, store_id)
        return Entry(tx.update(find(tx, store_id, file_id), **changes))

    @writes
    def delete(self, tx: Transaction, store_id: str, file_id: str) -> None:
        """Takes a file out of a vector store. Raises NotFound, NotInStore, StoreExpired."""
        store_lock.lock_open(tx, store_id)
        entries.remove(tx, [find(tx, store_id, file_id)])

    @gets
    def names(self, tx: Transaction, file_ids: Sequence[str]) -> Sequence[str]:
        """Returns the names of files of the project, of those that there are."""
        ids = [id for id in file_ids if "\0" not in id]
        return [row[0] for row in tx.all(NAMES, ids=ids)] if ids else []

    @reads
    def text(self, tx: Transaction, store_id: str, file_id: str) -> Text:
        """Returns the text of a file. Raises NotFound, NotInStore, NotCompleted."""
        row = _one(tx, store_id, file_id)
        if row.status != EntryStatus.completed or row.segment is None:
            raise NotCompleted(store_id, file_id, row.status)
        first, end = segments.number(row.segment), segments.number(row.segment + 1)
        chunks = tx.all(PORTION_OF, first=first, end=end, limit=MAX_CHUNKS)
        # Chunks overlap: of each, what is ahead of the next.
        stretches = [chunk.text[: after.start - chunk.start] for chunk, after in pairwise(chunks)]
        return Text(file_id, [each for each in [*stretches, chunks[-1].text] if each])


def find(tx: Transaction, store_id: str, file_id: str) -> VectorStoreFile:
    """Returns the entry of a file in a vector store that there is. Raises NotInStore."""
    row = None if "\0" in file_id else tx.one(GET, vector_store_id=store_id, id=file_id)
    if row is None:
        raise NotInStore(store_id, file_id)
    return row


def _one(tx: Transaction, store_id: str, file_id: str) -> VectorStoreFile:
    if store_lock.find(tx, store_id).expired:
        raise NotInStore(store_id, file_id)
    return find(tx, store_id, file_id)
