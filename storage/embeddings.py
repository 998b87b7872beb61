"""Vectors of large vector stores as pgvector has them: a row for each, and an index of neighbours.

They are a second copy: every vector is packed, too (storage.packed_vectors). A vector store says
with `neighbours` that whoever adds to it writes both; storage.neighbours makes what is missing.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from storage import packed_vectors, tables
from storage.file_tables import CHUNK_BITS
from storage.filters import Filtered
from storage.pgvector import NAME
from storage.repository import Repository, reads
from storage.rows import table
from storage.scope import ENTRIES, Scope, in_scope
from storage.statements import Statement, param
from storage.transaction import Transaction

Found = list[tuple[int, float]]
"""Numbers of chunks, with the products of their vectors and a query."""

SCANNED = 5_000
"""Neighbours that are looked at for those that are in scope, at most and about."""

LOOKED_AT = (100, 1_000)
"""How many neighbours are kept in view, at least and at most, if not those that are asked for: of
more, a few more are found that are nearest, and PostgreSQL is busy for longer."""

_SETTINGS = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),
    set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', CAST(:scanned AS text), true),
    set_config('hnsw.ef_search', CAST(:looked_at AS text), true)
"""
"""For a transaction: the nearest come out of the index of their vector store, and no others. A plan
that is made for any vector store would use none."""

_INDEXED = """
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = to_regclass(:name) AND indisvalid
    AND relname = ANY (ARRAY(SELECT json_array_elements_text(CAST(:names AS json))))
"""

_INSERT = f"""
INSERT INTO {NAME} (id, vector_store_id, embedding)
SELECT CAST(:first AS bigint) + place - 1, segments.vector_store_id, CAST(value::text AS halfvec)
FROM segments, json_array_elements(CAST(:vectors AS json)) WITH ORDINALITY AS each(value, place)
WHERE segments.id = :segment
ON CONFLICT DO NOTHING
"""

_STATE = """
SELECT to_regclass(:name) IS NOT NULL, max(default_version), max(installed_version)
FROM pg_available_extensions WHERE name = 'vector'
"""


class Halfvec(sa.types.UserDefinedType[Any]):
    """The type `halfvec`, of any dimensions or of so many."""

    cache_ok = True

    def __init__(self, dimensions: int | None = None) -> None:
        """Names the dimensions, or leaves them open."""
        self.dimensions = dimensions

    def get_col_spec(self, **_: Any) -> str:
        """Returns how the type is written."""
        return "halfvec" if self.dimensions is None else f"halfvec({self.dimensions})"


_TABLE = sa.table(
    NAME,
    sa.column("id", sa.BigInteger()),
    sa.column("vector_store_id", sa.Text()),
    sa.column("embedding", Halfvec()),
)
_TEXT = sa.column("", sa.Text())
_ID = sa.column("", sa.BigInteger())
_SEGMENTS = table(tables.Segment)
_STORES = table(tables.VectorStore)


@functools.lru_cache(32)
def _nearest(dimensions: int) -> Filtered[Any]:
    """Returns the statement that finds neighbours by the index of one vector store."""
    kind = Halfvec(dimensions)
    embedding = sa.cast(_TABLE.c.embedding, kind)
    query = sa.cast(param("query", _TEXT), kind)
    # The negative product: of vectors of length 1, that of the cosine.
    distance: Any = embedding.op("<#>", return_type=sa.Float(53))(query)
    length: Any = sa.func.vector_dims(_TABLE.c.embedding)

    def build(where: sa.ColumnElement[bool]) -> sa.Executable:
        return (
            sa.select(_TABLE.c.id, (-distance).label("score"))
            .where(
                _TABLE.c.vector_store_id == param("store", _TEXT),
                length == sa.literal_column(str(dimensions)),
                in_scope(_TABLE.c.id, where),
            )
            .order_by(distance)
            .limit(param("limit", sa.column("", sa.Integer())))
        )

    return Filtered(build)


class Embeddings(Repository):
    """The vectors of large vector stores; queries are lists of numbers in JSON."""

    SETTINGS: Statement[Any] = Statement(sa.text(_SETTINGS))
    INDEXED: Statement[Any] = Statement(sa.text(_INDEXED))
    INSERT: Statement[Any] = Statement(sa.text(_INSERT))
    STATE: Statement[Any] = Statement(sa.text(_STATE))
    IS_THERE: Statement[Any] = Statement(sa.text("SELECT to_regclass(:name) IS NOT NULL"))
    DELETE: Statement[Any] = Statement(
        sa.delete(_TABLE).where(_TABLE.c.id >= param("first", _ID), _TABLE.c.id < param("end", _ID))
    )
    DIMENSIONS: Statement[Any] = Statement(
        sa.select(_STORES.c.neighbours)
        .join(_SEGMENTS, _SEGMENTS.c.vector_store_id == _STORES.c.id)
        .where(_SEGMENTS.c.id == param("segment", _ID))
    )

    @reads
    def nearest(
        self, tx: Transaction, scope: Scope, queries: Sequence[str], dimensions: int, limit: int
    ) -> tuple[dict[str, list[Found]], list[int]]:
        """Returns what is nearest to each query, about, in each vector store that has an index.

        And the segments of the others: of those without an index, and those in which fewer than
        `limit` chunks are found for some query.
        """
        near = self._near(tx, scope, queries, dimensions, limit)
        others = tuple(each for each in scope.stores if each not in near)
        return near, packed_vectors.segments_in(tx, Scope(others, scope.filter)) if others else []

    def _near(
        self, tx: Transaction, scope: Scope, queries: Sequence[str], dimensions: int, limit: int
    ) -> dict[str, list[Found]]:
        names = {index_name(store, dimensions): store for store in scope.stores}
        rows = tx.all(self.INDEXED, name=NAME, names=json.dumps(list(names)))
        if not rows:
            return {}
        least, most = LOOKED_AT
        tx.value(self.SETTINGS, scanned=SCANNED, looked_at=min(max(limit, least), most))
        statement, params = _nearest(dimensions).of(scope.filter, ENTRIES.c.attributes)
        params["limit"] = limit
        found = {
            store: [
                tx.all(statement, stores=[store], store=store, query=query, **params)
                for query in queries
            ]
            for store in (names[name] for (name,) in rows)
        }
        return {
            store: near for store, near in found.items() if all(len(each) >= limit for each in near)
        }


def dimensions_of(tx: Transaction, segment: int) -> int | None:
    """Returns how long the vectors of a segment are that are to be added; None if none are."""
    return tx.value(Embeddings.DIMENSIONS, segment=segment)  # type: ignore[no-any-return]


def add(tx: Transaction, first: int, vectors: str) -> None:
    """Adds the vectors of chunks of a segment from a number on; those that are there stay."""
    tx.run(Embeddings.INSERT, first=first, segment=first >> CHUNK_BITS, vectors=vectors)


def remove(tx: Transaction, first: int) -> None:
    """Removes those of a segment from the chunk of a number on, if there are any."""
    if tx.value(Embeddings.IS_THERE, name=NAME):
        tx.run(Embeddings.DELETE, first=first, end=((first >> CHUNK_BITS) + 1) << CHUNK_BITS)


def missing(tx: Transaction) -> str | None:
    """Returns why the database cannot have such vectors; None if it can."""
    is_there, offered, installed = tx.one(Embeddings.STATE, name=NAME) or (False, None, None)
    if is_there:
        return None
    if offered is None:
        return "PostgreSQL does not have the extension vector"
    if installed is None:
        return "CREATE EXTENSION vector is not allowed"
    return f"pgvector {installed} is too old, or not in the search path"


def index_name(store_id: str, dimensions: int) -> str:
    """Returns the name of the index of a vector store's vectors of so many dimensions."""
    return f"neighbours_{dimensions}_{store_id}"
