"""Vector stores in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from storage import clock, entries, ids, pages, store_lock, tables
from storage.dialects import in_list
from storage.entries import NewEntry
from storage.errors import StoreExpired
from storage.file_tables import EXPIRES
from storage.pages import Page, PageRequest
from storage.repository import Repository, gets, reads_all, writes
from storage.rows import Run, VectorStore, table
from storage.segments import abandon
from storage.statements import Statement, param, project
from storage.transaction import Transaction

DAY = 86_400

_TABLE = table(tables.VectorStore)
_THREADS = table(tables.Thread)

LIST = pages.List(VectorStore, ids.VECTOR_STORE, _TABLE.c.project_id == project())
# Its files and batches go with it: ON DELETE CASCADE.
DELETE: Statement[Any] = Statement(sa.delete(_TABLE).where(_TABLE.c.id == param("id")))
SEGMENTS: Statement[Any] = Statement(
    sa.select(entries.TABLE.c.segment).where(
        entries.TABLE.c.vector_store_id == param("vector_store_id"),
        entries.TABLE.c.segment.is_not(None),
    )
)
TOUCH: Statement[Any] = Statement(
    sa.update(_TABLE)
    .where(
        _TABLE.c.project_id == project(),
        in_list(_TABLE.c.id, "ids"),
        _TABLE.c.last_active_at < param("now", _TABLE.c.last_active_at),
        clock.is_ahead(_TABLE.c.expires_at, param("now", _TABLE.c.expires_at)),
    )
    .values(
        # As far from it as it was.
        expires_at=_TABLE.c.expires_at
        + param("now", _TABLE.c.last_active_at)
        - _TABLE.c.last_active_at,
        last_active_at=param("now", _TABLE.c.last_active_at),
    )
)
DUE: Statement[Any] = Statement(
    sa.select(_TABLE.c.project_id, _TABLE.c.id)
    .where(
        EXPIRES,
        _TABLE.c.expires_at <= param("now", _TABLE.c.expires_at),
    )
    .order_by(_TABLE.c.expires_at)
    .limit(param("limit", sa.column("", sa.Integer())))
)

THREAD: Statement[Any] = Statement(
    sa.select(_THREADS.c.tool_resources).where(_THREADS.c.id == param("id"))
)
USABLE = Statement(
    sa.select(_TABLE).where(_TABLE.c.project_id == project(), in_list(_TABLE.c.id, "ids")),
    VectorStore,
)


class VectorStores(Repository):
    """Vector stores of a project."""

    @writes
    def create(
        self, tx: Transaction, values: Mapping[str, Any], files: Sequence[NewEntry]
    ) -> VectorStore:
        """Inserts a vector store of these attributes and files, each once, and returns it.

        Raises NotFound (a file).
        """
        store_lock.lock_files(tx, [each.file_id for each in files])
        return insert(tx, values, files, tx.now())

    @gets
    def get(self, tx: Transaction, store_id: str) -> VectorStore:
        """Returns a vector store. Raises NotFound."""
        return store_lock.find(tx, store_id)

    @gets
    def open(self, tx: Transaction, store_id: str) -> tuple[VectorStore, bool]:
        """Returns a vector store that is to be used, and whether that is yet to be noted.

        It is if this is the first use in this second; see `use`. Raises NotFound, StoreExpired.
        """
        return store_lock.find_open(tx, store_id)

    @gets
    def list(self, tx: Transaction, page: PageRequest) -> Page[VectorStore]:
        """Returns a page of the project's vector stores. Raises InvalidCursor."""
        found = LIST.page(tx, page)
        return Page([store_lock.as_of_now(tx, each) for each in found.data], found.has_more)

    @writes
    def modify(self, tx: Transaction, store_id: str, changes: Mapping[str, Any]) -> VectorStore:
        """Replaces the given attributes. Raises NotFound, StoreExpired."""
        store = store_lock.lock_open(tx, store_id)
        if "expires_after" in changes:
            expires_at = expiry(changes["expires_after"], store.last_active_at)
            changes = {**changes, "expires_at": expires_at}
        return store_lock.as_of_now(tx, tx.update(store, **changes))

    @writes
    def delete(self, tx: Transaction, store_id: str) -> None:
        """Deletes a vector store; its files stay. Raises NotFound."""
        store_lock.lock(tx, store_id)
        remove(tx, store_id)

    @writes
    def use(self, tx: Transaction, store_ids: Sequence[str]) -> None:
        """Notes that vector stores, of those that there are, were active just now."""
        tx.run(TOUCH, ids=[*store_ids], now=int(tx.now()))

    @reads_all
    def of_run(self, tx: Transaction, run: Run) -> Sequence[VectorStore]:
        """Returns the vector stores in which a run of any project searches, each once.

        Its own, then its thread's; of both, those that are there and not expired.
        """
        (of_thread,) = tx.one(THREAD, id=run.thread_id) or ({},)
        named = [*_named(run.tool_resources or {}), *_named(of_thread)]
        rows = tx.all(USABLE, ids=named, project_id=run.project_id)
        found = {row.id: store_lock.as_of_now(tx, row) for row in rows}
        return [found[id] for id in dict.fromkeys(named) if id in found and not found[id].expired]

    @reads_all
    def due(self, tx: Transaction, limit: int = 100) -> Sequence[tuple[str, str]]:
        """Returns projects and ids of vector stores whose time is up, those first that were first.

        They have files still.
        """
        return [(project, id) for project, id in tx.all(DUE, now=int(tx.now()), limit=limit)]

    @writes
    def expire(self, tx: Transaction, store_id: str) -> None:
        """Takes all files out of a vector store whose time is up."""
        try:
            store_lock.lock_open(tx, store_id)
        except StoreExpired:
            entries.remove(tx, tx.all(entries.OF_STORE, vector_store_id=store_id))
            tx.change(VectorStore, store_id, expired=True)


def insert(
    tx: Transaction, values: Mapping[str, Any], files: Sequence[NewEntry], now: float
) -> VectorStore:
    """Inserts a vector store of the transaction's project with files, which are locked."""
    position = ids.new_position()
    store = VectorStore(
        id=ids.make_id(ids.VECTOR_STORE, position),
        project_id=tx.project,
        position=position,
        created_at=int(now),
        last_active_at=int(now),
        expires_at=expiry(values.get("expires_after"), int(now)),
        **values,
    )
    tx.insert(store)
    found, _ = entries.add(tx, store, files, now)
    return found


def _named(stored: Mapping[str, Any]) -> list[str]:
    return [*stored.get("file_search", {}).get("vector_store_ids", ())]


def remove(tx: Transaction, store_id: str) -> None:
    """Deletes a locked vector store, with all that was read out of its files."""
    abandon(tx, [segment for (segment,) in tx.all(SEGMENTS, vector_store_id=store_id)])
    tx.run(DELETE, id=store_id)


def expiry(expires_after: Mapping[str, Any] | None, last_active_at: int) -> int | None:
    """Returns when a vector store expires, in unix seconds."""
    return None if expires_after is None else last_active_at + DAY * int(expires_after["days"])
