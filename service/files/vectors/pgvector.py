"""Packed vectors, and pgvector's index of neighbours for large vector stores beside them.

What an index of neighbours does not find is compared as packed vectors are: where there is no
index, where a filter leaves few of the neighbours, where PostgreSQL has no pgvector.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain

import numpy as np
import orjson
import psycopg
import structlog

from service.files.embeddings import Matrix
from service.files.vectors import Scores
from service.files.vectors.packed import PackedIndex, unpacked
from storage import embeddings, neighbours
from storage.database import Database
from storage.embeddings import Embeddings
from storage.errors import StorageError
from storage.file_tables import CHUNK_BITS
from storage.neighbours import Copied
from storage.rows import ChunkVectors
from storage.scope import Scope
from storage.transaction import Transaction

log = structlog.get_logger(__name__)

PERIOD = 30.0
"""Seconds between two looks for vector stores that have become large, or small."""

DECIMALS = 5
"""Decimals of numbers between -1 and 1 that are written: pgvector's halves know no more."""


class PgvectorIndex:
    """Compares with the neighbours that an index finds, or with every vector in scope."""

    def __init__(self, database: Database) -> None:
        """Works on PostgreSQL, with pgvector or without."""
        self._database = database
        self._packed = PackedIndex(database)
        self._embeddings = Embeddings(database)
        self._has_table = False

    async def open(self) -> None:
        """Looks whether there is pgvector, and says if not. Raises StorageError."""
        missing = await self._database.read(embeddings.missing)
        self._has_table = missing is None
        if missing is not None:
            log.info("there are no indexes of neighbours", because=missing)

    async def work(self) -> None:
        """Tends the indexes of large vector stores until it is cancelled."""
        while self._has_table:
            try:
                await self.tend()
            except (StorageError, psycopg.Error) as error:
                log.warning("no index of neighbours was built", problem=str(error).strip())
            await asyncio.sleep(PERIOD)

    async def tend(self, size: int = neighbours.SIZE) -> None:
        """Gives vector stores of so many chunks an index, and takes it from the others."""
        await neighbours.tend(self._database, _copied, size)

    def add(self, tx: Transaction, first: int, vectors: Matrix) -> int:
        """Adds vectors, in one row of packed ones; in one each, too, in a large vector store."""
        if embeddings.dimensions_of(tx, first >> CHUNK_BITS) == vectors.shape[1]:
            embeddings.add(tx, first, _text(vectors))
        return self._packed.add(tx, first, vectors)

    def remove(self, tx: Transaction, first: int) -> int:
        """Removes rows."""
        embeddings.remove(tx, first)
        return self._packed.remove(tx, first)

    async def nearest(
        self, project: str, scope: Scope, queries: Matrix, limit: int
    ) -> list[Scores]:
        """Returns the nearest chunks to each query, nearly or exactly."""
        if not (self._has_table and scope.neighbours):
            return await self._packed.nearest(project, scope, queries, limit)
        near, segments = await self._embeddings.nearest(
            project, scope, [_text(each) for each in queries], queries.shape[1], limit
        )
        found = await self._packed.compared(project, segments, queries, limit)
        for scores, *more in zip(found, *near.values(), strict=True):
            scores.update(chain.from_iterable(more))
        return [_best(each, limit) for each in found]

    async def scores(self, project: str, queries: Matrix, chunks: Sequence[int]) -> list[Scores]:
        """Returns how near certain chunks are."""
        return await self._packed.scores(project, queries, chunks)


def _best(scores: Scores, limit: int) -> Scores:
    return dict(sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:limit])


def _text(numbers: Matrix) -> str:
    """Returns numbers as JSON, which is how pgvector reads those of a vector."""
    rounded = np.ascontiguousarray(np.round(numbers, DECIMALS), dtype=np.float32)
    return orjson.dumps(rounded, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _copied(row: ChunkVectors) -> Copied:
    """Returns packed vectors as pgvector has them."""
    vectors = unpacked(row)
    return Copied(vectors.shape[1], _text(vectors))
