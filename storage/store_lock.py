"""Finding a vector store, and the row lock that every write to one or to its files takes first.

Locks are taken in one order everywhere: files, assistants and threads, vector stores.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import sqlalchemy as sa

from storage import clock, tables
from storage.dialects import in_list
from storage.errors import NotFound, StoreExpired
from storage.file_tables import EntryStatus
from storage.lookup import by_id
from storage.rows import VectorStore, VectorStoreBatch, maker, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

KIND = "vector store"
COUNTED = ("usage_bytes", *EntryStatus)

_STORES = table(tables.VectorStore)
_BATCHES = table(tables.VectorStoreBatch)
_FILES = table(tables.File)

_ONE = sa.select(_STORES).where(_STORES.c.project_id == project(), _STORES.c.id == param("id"))
_WITH_IDLE = _ONE.add_columns(
    # By whole seconds, as it is kept.
    (_STORES.c.last_active_at <= clock.now() - sa.literal_column("1")).label("idle")
)
_MAKE = maker(VectorStore, _WITH_IDLE.selected_columns.keys())
FIND = Statement(_ONE, VectorStore)
FIND_WITH_IDLE: Statement[Any] = Statement(_WITH_IDLE)
LOCK = Statement(_ONE.with_for_update(), VectorStore)
LOCK_FILES: Statement[Any] = Statement(
    sa.select(_FILES.c.id, _FILES.c.filename)
    .where(
        _FILES.c.project_id == project(),
        in_list(_FILES.c.id, "ids"),
        clock.is_ahead(_FILES.c.expires_at),
    )
    # As a row that refers to them would do it, but ahead of all other locks.
    .with_for_update(read=True, key_share=True)
)


def _added(columns: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: columns[name] + param(f"added_{name}", columns[name]) for name in names}


COUNT = Statement(
    sa.update(_STORES)
    .where(_STORES.c.id == param("id"))
    .values(_added(_STORES.c, COUNTED))
    .returning(_STORES),
    VectorStore,
)
COUNT_BATCH: Statement[Any] = Statement(
    sa.update(_BATCHES)
    .where(_BATCHES.c.id == param("id"))
    .values(_added(_BATCHES.c, [*EntryStatus]))
    .returning(_BATCHES),
    VectorStoreBatch,
)


def find(tx: Transaction, store_id: str) -> VectorStore:
    """Returns a vector store of the project without locking it. Raises NotFound."""
    return as_of_now(tx, by_id(tx, FIND, KIND, store_id))


def find_open(tx: Transaction, store_id: str) -> tuple[VectorStore, bool]:
    """Returns one that has not expired, and whether it was not active in this second yet.

    Raises NotFound, StoreExpired.
    """
    row = by_id(tx, FIND_WITH_IDLE, KIND, store_id)
    return _opened(as_of_now(tx, _MAKE(row))), row[-1]


def lock(tx: Transaction, store_id: str, **project: str) -> VectorStore:
    """Returns a vector store, its row locked until the transaction ends. Raises NotFound.

    Whoever works on all projects says which.
    """
    return as_of_now(tx, by_id(tx, LOCK, KIND, store_id, **project))


def lock_open(tx: Transaction, store_id: str) -> VectorStore:
    """Does the same for one that is to be changed. Raises NotFound, StoreExpired."""
    return _opened(lock(tx, store_id))


def _opened(store: VectorStore) -> VectorStore:
    if store.expired:
        raise StoreExpired(store.id)
    return store


def as_of_now(tx: Transaction, store: VectorStore) -> VectorStore:
    """Returns a vector store as it is at this moment: what is due has expired."""
    if store.expired or store.expires_at is None or store.expires_at > tx.now():
        return store
    expired = copy(store)
    expired.expired = True
    for name in COUNTED:
        setattr(expired, name, 0)
    return expired


def lock_files(tx: Transaction, ids: Sequence[str]) -> None:
    """Keeps files of the project from being deleted until the transaction ends.

    Comes ahead of every other lock. Raises NotFound, for the first that there is not.
    """
    if not ids:
        return
    found = {row[0] for row in tx.all(LOCK_FILES, ids=[id for id in ids if "\0" not in id])}
    for id in ids:
        if id not in found:
            raise NotFound("file", id)


def count(tx: Transaction, store_id: str, added: Mapping[str, int]) -> VectorStore | None:
    """Adds to what a locked vector store counts; returns it as it is then."""
    changes = {f"added_{name}": added.get(name, 0) for name in COUNTED}
    return tx.one(COUNT, id=store_id, **changes)


def count_batch(
    tx: Transaction, batch_id: str, added: Mapping[str, int]
) -> VectorStoreBatch | None:
    """Adds to what a batch of a locked vector store counts; returns it as it is then."""
    changes = {f"added_{name}": added.get(name, 0) for name in EntryStatus}
    found: VectorStoreBatch | None = tx.one(COUNT_BATCH, id=batch_id, **changes)
    return found
