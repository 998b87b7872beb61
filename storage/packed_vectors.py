"""Vectors in rows of the database, many to a row.

What stands in a row is the index's own business: this module reads and writes bytes.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.dialects import in_numbers
from storage.file_tables import CHUNK_BITS
from storage.filters import Filtered
from storage.repository import Repository, reads_at_once
from storage.rows import ChunkVectors, table
from storage.scope import ENTRIES, Scope, visible
from storage.statements import Statement, param
from storage.transaction import Transaction

_TABLE = table(tables.ChunkVectors)
_ID = sa.column("", sa.BigInteger())
_OF = _TABLE.c.segment == param("segment", _ID)

SEGMENTS: Filtered[Any] = Filtered(lambda where: sa.select(ENTRIES.c.segment).where(visible(where)))
OF_SEGMENTS = Statement(
    sa.select(_TABLE)
    .where(in_numbers(_TABLE.c.segment, "segments"))
    .order_by(_TABLE.c.segment, _TABLE.c.id),
    ChunkVectors,
)
AT = Statement(sa.select(_TABLE).where(_TABLE.c.id == param("id", _ID)), ChunkVectors)
DELETE: Statement[Any] = Statement(sa.delete(_TABLE).where(_OF, _TABLE.c.id >= param("first", _ID)))


class PackedVectors(Repository):
    """Rows of vectors."""

    @reads_at_once
    def segments(self, tx: Transaction, scope: Scope) -> list[int]:
        """Returns the numbers of the segments in scope."""
        return segments_in(tx, scope)

    @reads_at_once
    def rows(self, tx: Transaction, segments: Sequence[int]) -> list[ChunkVectors]:
        """Returns the rows of some segments, in order."""
        return tx.all(OF_SEGMENTS, segments=list(segments))


def segments_in(tx: Transaction, scope: Scope) -> list[int]:
    """Returns the numbers of the segments in scope, in order."""
    statement, params = SEGMENTS.of(scope.filter, ENTRIES.c.attributes)
    return sorted(row[0] for row in tx.all(statement, stores=list(scope.stores), **params))


def first_of_segment(tx: Transaction, segment: int) -> ChunkVectors | None:
    """Returns the first row of a segment, if there is one."""
    return tx.one(AT, id=segment << CHUNK_BITS)


def of_segment(tx: Transaction, segment: int) -> list[ChunkVectors]:
    """Returns the rows of a segment, in order."""
    return tx.all(OF_SEGMENTS, segments=[segment])


def add(tx: Transaction, first: int, rows: int, packed: bytes) -> None:
    """Adds a row of the vectors of chunks from a number on."""
    tx.insert(ChunkVectors(id=first, segment=first >> CHUNK_BITS, rows=rows, packed=packed))


def remove(tx: Transaction, first: int) -> None:
    """Removes the rows of a segment from the chunk of a number on."""
    tx.run(DELETE, segment=first >> CHUNK_BITS, first=first)
