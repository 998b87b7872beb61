"""What a search looks through: the visible segments of some vector stores, or some of them."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.dialects import in_list
from storage.file_tables import CHUNK_BITS
from storage.filters import Filter
from storage.rows import table
from storage.statements import project

ENTRIES = table(tables.VectorStoreFile)


@dataclass(frozen=True, slots=True)
class Scope:
    """Vector stores, by their ids, and what the attributes of their files must match."""

    stores: tuple[str, ...]
    filter: Filter | None = None
    neighbours: bool = True
    """Whether some of the vector stores may have an index of neighbours."""


def visible(where: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Returns the condition that an entry is in scope: the project's, of `stores`, and whole."""
    stores = in_list(ENTRIES.c.vector_store_id, "stores")
    return sa.and_(stores, ENTRIES.c.project_id == project(), ENTRIES.c.segment.is_not(None), where)


def segment_of(chunk: Any) -> Any:
    """Returns the segment of the chunk whose number is in a column."""
    return chunk.op(">>")(sa.literal_column(str(CHUNK_BITS), sa.BigInteger()))


def in_scope(
    chunk: Any, where: sa.ColumnElement[bool], *, by_itself: bool = False
) -> sa.ColumnElement[bool]:
    """Returns the condition that the chunk of a number is in scope.

    With `by_itself`, PostgreSQL looks up the entry of each chunk alone, when it comes to it.
    """
    entry: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        ENTRIES.c.segment == segment_of(chunk), visible(where)
    )
    # With an offset, it is not made a join.
    return sa.exists(entry.offset(sa.literal_column("0")) if by_itself else entry)
