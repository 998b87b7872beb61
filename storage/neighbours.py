"""Indexes of neighbours: each large vector store has one of its own, built beside all other work.

pgvector's HNSW finds what is nearest in a time that hardly grows with the chunks, but each chunk
that is added then costs milliseconds. So small vector stores have none. One for all stores would
find neighbours in others before those that are asked for.

A vector store is first marked, so that whoever adds to it writes vectors for the index, too. Then
those are copied that were there before; a segment's lock keeps both from missing any. The index is
used once it is whole.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from storage import embeddings, packed_vectors, pgvector, postgresql, segments
from storage.database import Database
from storage.embeddings import index_name
from storage.rows import ChunkVectors
from storage.transaction import Transaction

SIZE = 100_000
"""Chunks from which on a vector store gets an index: to compare with all takes more CPU from there
on. It keeps that until it has half as many."""

MOST = 100
"""Indexes, at most: those of the largest vector stores. Each costs a little whenever vectors are
added to any."""

MAX_DIMENSIONS = 4_000
"""Vectors that are longer have no index."""

LEAST_BYTES = 100
"""What a chunk takes, at least, as vector stores count it."""

CHUNK_BYTES = 1_000
"""What building takes in memory for each chunk, besides its vector."""

MAX_MEMORY_KB = 2**20
"""Kilobytes of memory that building takes, at most. It takes longer where more would be needed."""

BUILDING = 0x6E65696768
"""The advisory lock of the server that builds (`neigh` in ASCII)."""

# Building takes one core: the others are for those who wait for an answer.
_SETTINGS = """
SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
    set_config('max_parallel_maintenance_workers', '0', false)
"""
_MEMORY = """
SELECT set_config('maintenance_work_mem', greatest(setting::int, %s) || 'kB', false)
FROM pg_settings WHERE name = 'maintenance_work_mem'
"""
_LARGEST = f"""
SELECT vector_stores.id, sum(segments.chunks)::int, max(segments.id)
FROM vector_stores JOIN vector_store_files ON vector_store_id = vector_stores.id
    JOIN segments ON segments.id = segment
WHERE vector_stores.usage_bytes >= %s
GROUP BY 1 HAVING sum(segments.chunks) >= %s
ORDER BY 2 DESC LIMIT {MOST}
"""
_MARKED = "SELECT id, neighbours FROM vector_stores WHERE neighbours IS NOT NULL"
_MARK = "UPDATE vector_stores SET neighbours = %s WHERE id = %s"
_SEGMENTS = "SELECT id FROM segments WHERE vector_store_id = %s ORDER BY id"
_INDEXES = f"""
SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = to_regclass('{pgvector.NAME}') AND NOT indisprimary
"""
_CREATE = sql.SQL(
    "CREATE INDEX CONCURRENTLY {name} ON {table} "
    "USING hnsw ((embedding::halfvec({dimensions})) halfvec_ip_ops) "
    "WHERE vector_store_id = {store} AND vector_dims(embedding) = {dimensions}"
)
_DROP = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {name}")
_DELETE = f"DELETE FROM {pgvector.NAME} WHERE vector_store_id = %s"


@dataclass(frozen=True, slots=True)
class Copied:
    """Packed vectors as pgvector has them: their length, and a list of lists in JSON."""

    dimensions: int
    vectors: str


@dataclass(frozen=True, slots=True)
class _Store:
    """A large vector store."""

    id: str
    chunks: int
    dimensions: int
    """How long the vectors of its newest file are."""


Copy = Callable[[ChunkVectors], Copied]


async def tend(database: Database, copy: Copy, size: int) -> None:
    """Makes the indexes of vector stores of so many chunks, and drops those of others.

    Does nothing while another server does. Raises StorageError, psycopg.Error.
    """
    connection = await psycopg.AsyncConnection.connect(
        autocommit=True, **postgresql.parameters(database.url)
    )
    async with connection:
        if await _rows(connection, "SELECT pg_try_advisory_lock(%s)", BUILDING) == [(True,)]:
            await connection.execute(_SETTINGS)
            await _Tending(database, connection, copy, size).tend()
            # PostgreSQL would notice the end of the connection some time later.
            await connection.execute("SELECT pg_advisory_unlock(%s)", (BUILDING,))


class _Tending:
    """One round, by the one server that has the lock."""

    def __init__(
        self,
        database: Database,
        connection: psycopg.AsyncConnection[Any],
        copy: Copy,
        size: int,
    ) -> None:
        self._database = database
        self._connection = connection
        self._copy = copy
        self._size = size

    async def tend(self) -> None:
        marked = dict(await _rows(self._connection, _MARKED))
        wanted = await self._wanted(marked)
        whole = await self._drop_others(set(wanted))
        large = {each.id for each in wanted.values()}
        for id in marked.keys() - large:
            await self._connection.execute(_MARK, (None, id))
            await self._connection.execute(_DELETE, (id,))
        for name, store in wanted.items():
            if marked.get(store.id) != store.dimensions:
                await self._connection.execute(_MARK, (store.dimensions, store.id))
            if name not in whole:
                await self._build(name, store)

    async def _wanted(self, marked: Container[str]) -> dict[str, _Store]:
        """Returns the vector stores that are to have indexes, by the names of these."""
        kept = self._size // 2
        found = {}
        for id, chunks, newest in await _rows(self._connection, _LARGEST, kept * LEAST_BYTES, kept):
            if chunks >= self._size or id in marked:
                store = _Store(id, chunks, await self._dimensions(newest))
                if 0 < store.dimensions <= MAX_DIMENSIONS:
                    found[index_name(id, store.dimensions)] = store
        return found

    async def _drop_others(self, wanted: Container[str]) -> set[str]:
        """Drops indexes that nobody wants, and what is left of some; returns those that stay."""
        whole = set()
        for name, is_whole in await _rows(self._connection, _INDEXES):
            if is_whole and name in wanted:
                whole.add(name)
            else:
                await self._connection.execute(_DROP.format(name=sql.Identifier(name)))
        return whole

    async def _dimensions(self, segment: int) -> int:
        """Returns how long the vectors of a segment are; 0 if it has gone."""

        def work(tx: Transaction) -> int:
            row = packed_vectors.first_of_segment(tx, segment)
            return 0 if row is None else self._copy(row).dimensions

        return await self._database.read(work)

    async def _build(self, name: str, store: _Store) -> None:
        for (segment,) in await _rows(self._connection, _SEGMENTS, store.id):
            await self._copy_segment(segment, store.dimensions)
        needed = store.chunks * (CHUNK_BYTES + 2 * store.dimensions) // 1024
        await self._connection.execute(_MEMORY, (min(needed, MAX_MEMORY_KB),))
        await self._connection.execute(
            _CREATE.format(
                name=sql.Identifier(name),
                table=sql.Identifier(pgvector.NAME),
                store=sql.Literal(store.id),
                dimensions=sql.Literal(store.dimensions),
            )
        )

    async def _copy_segment(self, segment: int, dimensions: int) -> None:
        """Copies the vectors of a segment that were added before its vector store was marked."""

        def work(tx: Transaction) -> None:
            tx.one(segments.LOCK, segment=segment)
            for row in packed_vectors.of_segment(tx, segment):
                if (copied := self._copy(row)).dimensions == dimensions:
                    embeddings.add(tx, row.id, copied.vectors)

        await self._database.write(work)


async def _rows(connection: psycopg.AsyncConnection[Any], query: str, *given: Any) -> list[Any]:
    return await (await connection.execute(query.encode(), given or None)).fetchall()
