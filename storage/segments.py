"""Segments: what was read out of files, for search to look through.

A segment is written in portions, by the one who has begun it, and is invisible until an entry of a
vector store names it. One that no entry names is removed, in portions too: when its entry has been
deleted or indexed again, or when it was never finished.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.clock import is_ahead, now
from storage.database import Database
from storage.dialects import in_numbers
from storage.file_tables import CHUNK_BITS
from storage.full_text import full_text_of, search
from storage.repository import Repository, reads, reads_all, reads_at_once, writes, writes_all
from storage.rows import Chunk, Segment, table
from storage.scope import ENTRIES, Scope, segment_of
from storage.statements import Statement, param, project
from storage.transaction import Transaction

_SEGMENTS = table(tables.Segment)
_CHUNKS = table(tables.Chunk)
_VECTORS = table(tables.ChunkVectors)
_FILES = table(tables.File)

MAX_CHUNKS: int = 2**CHUNK_BITS
"""Chunks of a segment, at most."""

ABANDONED = 0.0
"""When a segment that nobody writes any more was touched last."""

PORTION = 200
"""Chunks that are removed in one transaction."""

_ID = sa.column("", sa.BigInteger())

BEGIN: Statement[Any] = Statement(
    sa.insert(_SEGMENTS)
    .values(
        project_id=project(),
        vector_store_id=param("vector_store_id"),
        embedder=param("embedder"),
        chunks=0,
        bytes=0,
        touched_at=now(),
    )
    .returning(_SEGMENTS.c.id)
)
TOUCH: Statement[Any] = Statement(
    sa.update(_SEGMENTS)
    .where(_SEGMENTS.c.id == param("segment", _ID))
    .values(
        chunks=_SEGMENTS.c.chunks + param("added_chunks", _SEGMENTS.c.chunks),
        bytes=_SEGMENTS.c.bytes + param("added_bytes", _SEGMENTS.c.bytes),
        touched_at=now(),
    )
)
_ONE = sa.select(_SEGMENTS).where(_SEGMENTS.c.id == param("segment", _ID))
GET = Statement(_ONE, Segment)
LOCK = Statement(_ONE.with_for_update(), Segment)
FOUND: Statement[Any] = Statement(
    sa.select(
        _CHUNKS.c.id,
        _CHUNKS.c.tokens,
        _CHUNKS.c.text,
        ENTRIES.c.vector_store_id,
        ENTRIES.c.file_id,
        _FILES.c.filename,
        ENTRIES.c.attributes,
    )
    .select_from(_CHUNKS)
    .join(ENTRIES, ENTRIES.c.segment == segment_of(_CHUNKS.c.id))
    .join(_FILES, _FILES.c.id == ENTRIES.c.file_id)
    .where(
        in_numbers(_CHUNKS.c.id, "ids"),
        ENTRIES.c.project_id == project(),
        # Of those that have, the entry is removed soon.
        is_ahead(_FILES.c.expires_at),
    )
)
_IN_SEGMENT = sa.and_(_CHUNKS.c.id >= param("first", _ID), _CHUNKS.c.id < param("end", _ID))
PORTION_OF = Statement(
    sa.select(_CHUNKS)
    .where(_IN_SEGMENT)
    .order_by(_CHUNKS.c.id)
    .limit(param("limit", sa.column("", sa.Integer()))),
    Chunk,
)
DELETE_CHUNKS: Statement[Any] = Statement(sa.delete(_CHUNKS).where(_IN_SEGMENT))
DELETE: Statement[Any] = Statement(
    sa.delete(_SEGMENTS).where(_SEGMENTS.c.id == param("segment", _ID))
)
ABANDON: Statement[Any] = Statement(
    sa.update(_SEGMENTS)
    .where(in_numbers(_SEGMENTS.c.id, "segments"))
    .values(touched_at=sa.literal(ABANDONED))
)
ORPHANS: Statement[Any] = Statement(
    sa.select(_SEGMENTS.c.id)
    .where(
        _SEGMENTS.c.touched_at < param("before", _SEGMENTS.c.touched_at),
        # Counted one by one: an outer join would read all entries for a few segments.
        sa.select(sa.func.count()).where(ENTRIES.c.segment == _SEGMENTS.c.id).scalar_subquery()
        == 0,
    )
    .order_by(_SEGMENTS.c.touched_at)
    .limit(param("limit", sa.column("", sa.Integer())))
)


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to add, in the order of the text."""

    start: int
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk that search has found, with the file that it is of."""

    id: int
    tokens: int
    text: str
    vector_store_id: str
    file_id: str
    filename: str
    attributes: dict[str, Any]


Also = Callable[[Transaction, int], int]
"""What else to do in a transaction that adds chunks, the first of which has a number.

Returns the bytes that it has added."""


class Segments(Repository):
    """The segments of all vector stores."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        super().__init__(database)
        self._words = full_text_of(database.url.get_backend_name())

    @writes
    def begin(self, tx: Transaction, vector_store_id: str, embedder: str) -> int:
        """Begins a segment and returns its number."""
        return int(tx.value(BEGIN, vector_store_id=vector_store_id, embedder=embedder))

    @writes
    def add(
        self, tx: Transaction, segment: int, place: int, chunks: Sequence[NewChunk], also: Also
    ) -> None:
        """Adds the chunks from a place on, with their words, and whatever `also` adds.

        LookupError if the segment was abandoned or removed meanwhile. ValueError for too many
        chunks.
        """
        if place + len(chunks) > MAX_CHUNKS:
            raise ValueError("too many chunks")
        found = lock(tx, segment)
        if found is None:
            raise LookupError(f"no segment {segment} to add to")
        first = number(segment, place)
        rows = [
            Chunk(id=first + n, start=each.start, tokens=each.tokens, text=each.text)
            for n, each in enumerate(chunks)
        ]
        tx.insert(*rows)
        self._words.add(tx, found.vector_store_id, ((row.id, row.text) for row in rows))
        size = sum(len(row.text.encode()) for row in rows) + also(tx, first)
        tx.run(TOUCH, segment=segment, added_chunks=len(rows), added_bytes=size)

    @reads
    def with_words(self, tx: Transaction, scope: Scope, query: str, limit: int) -> dict[int, float]:
        """Returns the chunks that have words of a query, the best first; see FullText."""
        return dict(search(self._words, tx, scope, query, limit))

    @reads_at_once
    def found(self, tx: Transaction, ids: Sequence[int]) -> dict[int, Found]:
        """Returns chunks by their numbers; those that are not visible any more are left out."""
        return {row[0]: Found(*row) for row in tx.all(FOUND, ids=list(ids))}

    @reads
    def chunks(self, tx: Transaction, segment: int, place: int, limit: int) -> list[Chunk]:
        """Returns chunks of a segment in the order of the text, from a place on."""
        if tx.one(GET, segment=segment) is None:
            return []
        return tx.all(
            PORTION_OF, first=number(segment, place), end=number(segment + 1), limit=limit
        )

    @writes_all
    def abandon(self, tx: Transaction, segments: Sequence[int]) -> None:
        """Leaves segments to be removed as soon as no entry names them."""
        abandon(tx, segments)

    @reads_all
    def orphans(self, tx: Transaction, idle: float, limit: int = 100) -> list[int]:
        """Returns segments that no entry names, and that nobody has added to for some seconds."""
        before = tx.now() - idle
        return [row[0] for row in tx.all(ORPHANS, before=before, limit=limit)]

    @writes_all
    def remove(self, tx: Transaction, segment: int, also: Also) -> bool:
        """Removes a portion of a segment that no entry names, its last chunks first.

        `also` removes what stands from a number on. Returns whether nothing is left.
        """
        found = tx.one(LOCK, segment=segment)
        if found is None:
            return True
        first = number(segment, max(found.chunks - PORTION, 0))
        end = number(segment + 1)
        rows = tx.all(PORTION_OF, first=first, end=end, limit=MAX_CHUNKS)
        self._words.remove(tx, found.vector_store_id, ((row.id, row.text) for row in rows))
        tx.run(DELETE_CHUNKS, first=first, end=end)
        freed = also(tx, first)
        if first == number(segment):
            tx.run(DELETE, segment=segment)
            return True
        tx.run(TOUCH, segment=segment, added_chunks=-PORTION, added_bytes=-freed)
        abandon(tx, [segment])
        return False


def lock(tx: Transaction, segment: int) -> Segment | None:
    """Locks a segment until the transaction's end, or returns None if it was abandoned or removed.

    What is added or removed under the lock stays in step with what the segment counts.
    """
    found = tx.one(LOCK, segment=segment)
    return None if found is None or found.touched_at == ABANDONED else found


def abandon(tx: Transaction, segments: Sequence[int]) -> None:
    """Leaves segments that nobody writes any more to be removed as soon as no entry names them."""
    if segments:
        tx.run(ABANDON, segments=[*segments])


def number(segment: int, place: int = 0) -> int:
    """Returns the number of the chunk at a place of a segment."""
    return (segment << CHUNK_BITS) + place


def place_of(chunk: int) -> int:
    """Returns the place in its segment of the chunk of a number."""
    return chunk % MAX_CHUNKS
