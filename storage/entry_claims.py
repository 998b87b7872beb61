"""The indexer's side of the database: claiming entries of vector stores, and ending them.

A claim is an attempt at an entry with a lease, as with runs: whoever lost it can write nothing any
more. A lease that runs out was lost in a crash, and the entry is claimed again, up to a third time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import clock, entries, segments, store_lock, tables
from storage.database import Database
from storage.errors import NotFound
from storage.file_tables import IN_PROGRESS, EntryStatus
from storage.repository import Repository, reads_all, renews, writes_all
from storage.rows import Segment, VectorStore, VectorStoreFile, table
from storage.statements import Statement, one_of, param
from storage.transaction import Transaction

CRASHES = 3
"""Claims of an entry that may be lost in crashes."""

_TABLE = entries.TABLE
_FILES = table(tables.File)
_BLOBS = table(tables.Blob)
_SEGMENTS = table(tables.Segment)
_STORES = table(tables.VectorStore)

_NOW = sa.select(clock.now()).scalar_subquery()
DUE = Statement(
    sa.select(_TABLE)
    .where(IN_PROGRESS, sa.or_(_TABLE.c.lease_until.is_(None), _TABLE.c.lease_until <= _NOW))
    .order_by(_TABLE.c.queued_at)
    .limit(param("limit", sa.column("", sa.Integer()))),
    VectorStoreFile,
)
TAKE = Statement(
    sa.update(_TABLE)
    .where(
        _TABLE.c.id == param("id"),
        _TABLE.c.attempt == param("attempt", _TABLE.c.attempt),
        one_of(_TABLE.c.status, [EntryStatus.in_progress]),
    )
    .values(
        attempt=_TABLE.c.attempt + sa.literal(1),
        crashes=param("crashes", _TABLE.c.crashes),
        lease_until=clock.now() + param("lease", _TABLE.c.lease_until),
    )
    .returning(_TABLE),
    VectorStoreFile,
)
_HELD = (
    _TABLE.c.id == param("id"),
    _TABLE.c.attempt == param("attempt", _TABLE.c.attempt),
    one_of(_TABLE.c.status, [EntryStatus.in_progress]),
)
RENEW: Statement[Any] = Statement(
    sa.update(_TABLE)
    .where(*_HELD)
    .values(lease_until=clock.now() + param("lease", _TABLE.c.lease_until))
)
RELEASE: Statement[Any] = Statement(
    sa.update(_TABLE)
    .where(*_HELD)
    .values(lease_until=sa.null(), attempt=_TABLE.c.attempt + sa.literal(1))
)
PUT_OFF: Statement[Any] = Statement(
    sa.update(_TABLE)
    .where(*_HELD)
    .values(
        attempt=_TABLE.c.attempt + sa.literal(1),
        queued_at=clock.now(),
        lease_until=clock.now() + param("pause", _TABLE.c.lease_until),
        # The lease runs out without a crash.
        crashes=_TABLE.c.crashes - sa.literal(1),
    )
)
END = Statement(
    sa.update(_TABLE)
    .where(*_HELD)
    .values(
        status=param("new_status"),
        last_error=param("new_last_error", _TABLE.c.last_error),
        segment=param("new_segment", _TABLE.c.segment),
        usage_bytes=param("new_usage_bytes", _TABLE.c.usage_bytes),
        lease_until=sa.null(),
        crashes=sa.literal(0),
    )
    .returning(_TABLE),
    VectorStoreFile,
)
SOURCE: Statement[Any] = Statement(
    sa.select(_FILES.c.filename, _BLOBS.c.place, _BLOBS.c.id, _BLOBS.c.bytes)
    .select_from(_FILES)
    .outerjoin(_BLOBS, _BLOBS.c.file_id == _FILES.c.id)
    .where(_FILES.c.id == param("id"))
)
# Of the visible segments of a vector store, one that another embedder made.
OTHER: Statement[Any] = Statement(
    sa.select(_TABLE.c.id)
    .where(
        _TABLE.c.vector_store_id == param("vector_store_id"),
        _TABLE.c.segment.is_not(None),
        sa.select(_SEGMENTS.c.embedder).where(_SEGMENTS.c.id == _TABLE.c.segment).scalar_subquery()
        != param("embedder"),
    )
    .limit(sa.literal(1))
)
STALE: Statement[Any] = Statement(
    sa.select(_STORES.c.project_id, _STORES.c.id).where(
        _STORES.c.embedder.is_not(None), _STORES.c.embedder != param("embedder")
    )
)
AGAIN = Statement(
    sa.update(_TABLE)
    .where(
        _TABLE.c.vector_store_id == param("vector_store_id"),
        one_of(_TABLE.c.status, [EntryStatus.completed]),
    )
    .values(
        status=sa.literal(str(EntryStatus.in_progress)),
        queued_at=param("now", _TABLE.c.queued_at),
        lease_until=sa.null(),
    )
    .returning(_TABLE),
    VectorStoreFile,
)


@dataclass(frozen=True, slots=True)
class Source:
    """The file of an entry: its name, and the keys and sizes of its blobs in their order."""

    filename: str
    blobs: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class EntryClaim:
    """An attempt's hold of an entry."""

    row: VectorStoreFile
    source: Source

    @property
    def hopeless(self) -> bool:
        """Whether it was lost in too many crashes to be tried again."""
        return self.row.crashes >= CRASHES


class EntryClaims(Repository):
    """Entries as indexers see them, of all projects. Each method is one transaction."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        """Works on `database`; a claim holds for `lease_seconds` unless renewed."""
        super().__init__(database)
        self._lease = lease_seconds

    @writes_all
    def claim(self, tx: Transaction, limit: int) -> Sequence[EntryClaim]:
        """Claims up to `limit` entries that nobody holds, those first that wait the longest."""
        found = []
        for each in tx.all(DUE, limit=limit):
            crashed = each.lease_until is not None
            taken = tx.one(
                TAKE,
                id=each.id,
                attempt=each.attempt,
                crashes=each.crashes + crashed,
                lease=self._lease,
            )
            if taken is not None:
                found.append(EntryClaim(taken, _source(tx, taken.file_id)))
        return found

    @renews
    def renew(self, tx: Transaction, claim: EntryClaim) -> bool:
        """Renews the lease. Returns false if the claim is lost: to another, or for good."""
        held = tx.run(RENEW, id=claim.row.id, attempt=claim.row.attempt, lease=self._lease)
        return bool(held)

    @writes_all
    def release(self, tx: Transaction, claim: EntryClaim) -> None:
        """Gives the entry back, for anybody to claim at once."""
        tx.run(RELEASE, id=claim.row.id, attempt=claim.row.attempt)

    @writes_all
    def put_off(self, tx: Transaction, claim: EntryClaim, pause: float) -> None:
        """Gives the entry back, for anybody to claim after some seconds, behind all others."""
        tx.run(PUT_OFF, id=claim.row.id, attempt=claim.row.attempt, pause=pause)

    @writes_all
    def complete(self, tx: Transaction, claim: EntryClaim, segment: int) -> bool:
        """Makes a segment that is whole the entry's.

        Returns false if the claim is lost: then nobody needs the segment any more.
        """
        store = _lock(tx, claim)
        built = segments.lock(tx, segment)
        if built is None:
            return False
        if store is None or not _end(tx, claim, EntryStatus.completed, built):
            segments.abandon(tx, [segment])
            return False
        if store.embedder != built.embedder and (
            store.embedder is None
            or tx.one(OTHER, vector_store_id=store.id, embedder=built.embedder) is None
        ):
            tx.change(VectorStore, store.id, embedder=built.embedder)
        return True

    @writes_all
    def fail(self, tx: Transaction, claim: EntryClaim, error: Mapping[str, str]) -> bool:
        """Ends the entry as failed. Returns false if the claim is lost."""
        return _lock(tx, claim) is not None and _end(tx, claim, EntryStatus.failed, None, error)

    @reads_all
    def stale(self, tx: Transaction, embedder: str) -> Sequence[tuple[str, str]]:
        """Returns projects and ids of the vector stores whose vectors another embedder made."""
        return [(project, id) for project, id in tx.all(STALE, embedder=embedder)]

    @writes_all
    def reindex(self, tx: Transaction, project_id: str, store_id: str) -> int:
        """Has the completed files of a vector store indexed again; returns how many there are.

        Until a file is done, it is found as before.
        """
        try:
            store_lock.lock(tx, store_id, project_id=project_id)
        except NotFound:
            return 0
        rows = tx.all(AGAIN, vector_store_id=store_id, now=tx.now())
        for row in rows:
            row.status = EntryStatus.completed
            entries.count_change(tx, row, EntryStatus.in_progress, row.usage_bytes)
        return len(rows)


def _lock(tx: Transaction, claim: EntryClaim) -> VectorStore | None:
    try:
        store = store_lock.lock(tx, claim.row.vector_store_id, project_id=claim.row.project_id)
    except NotFound:
        return None
    return None if store.expired else store


def _end(
    tx: Transaction,
    claim: EntryClaim,
    status: EntryStatus,
    built: Segment | None,
    error: Mapping[str, str] | None = None,
) -> bool:
    """Ends an entry of a locked vector store, if the claim still holds it."""
    size = 0 if built is None else built.bytes
    ended = tx.one(
        END,
        id=claim.row.id,
        attempt=claim.row.attempt,
        new_status=status,
        new_last_error=None if error is None else dict(error),
        new_segment=None if built is None else built.id,
        new_usage_bytes=size,
    )
    if ended is None:
        return False
    entries.count_change(tx, claim.row, status, size)
    # What it had before, if it was indexed again.
    segments.abandon(tx, [] if claim.row.segment is None else [claim.row.segment])
    return True


def _source(tx: Transaction, file_id: str) -> Source:
    rows = tx.all(SOURCE, id=file_id)
    filename = rows[0][0] if rows else ""
    blobs = sorted((place, key, size) for _, place, key, size in rows if key is not None)
    return Source(filename, [(key, size) for _, key, size in blobs])
