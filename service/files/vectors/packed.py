"""Vectors in packed matrices: eight bits a number, compared one by one, in a thread.

A row of the database holds the vectors of some chunks: a scale for each (four bytes), then the
numbers of each, in proportion to the scale. Rows that were read are kept, up to a number of bytes:
segments never change, so what is kept is never wrong.
"""

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.files.embeddings import Matrix
from service.files.vectors import Scores
from storage import packed_vectors
from storage.database import Database
from storage.file_tables import CHUNK_BITS
from storage.packed_vectors import PackedVectors
from storage.rows import ChunkVectors
from storage.scope import Scope
from storage.transaction import Transaction

BLOCK = 1024
"""Vectors that are compared in one go: their numbers stay in the processor's cache."""

SEGMENTS = 256
"""Segments that are read in one go."""

KEEP_BYTES = 128 * 2**20
"""Bytes of vectors that are kept in memory."""

Packed = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Vectors with the numbers of their chunks, which rise."""

    ids: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float32]
    numbers: Packed | Matrix
    """In proportion to the scales: as they are stored, or as floats to multiply with."""

    @property
    def size(self) -> int:
        return self.ids.nbytes + self.scales.nbytes + self.numbers.nbytes


class PackedIndex:
    """Compares with every vector in scope."""

    def __init__(self, database: Database, keep_bytes: int = KEEP_BYTES) -> None:
        """Keeps up to so many bytes of what it has read."""
        self._rows = PackedVectors(database)
        self._kept: OrderedDict[int, list[_Rows]] = OrderedDict()
        self._room = keep_bytes

    async def open(self) -> None:
        """Does nothing."""

    async def work(self) -> None:
        """Does nothing."""

    def add(self, tx: Transaction, first: int, vectors: Matrix) -> int:
        """Adds vectors in one row."""
        data = pack(vectors)
        packed_vectors.add(tx, first, len(vectors), data)
        return len(data)

    def remove(self, tx: Transaction, first: int) -> int:
        """Removes rows. What is kept of them is out of every scope."""
        packed_vectors.remove(tx, first)
        return 0

    async def nearest(
        self, project: str, scope: Scope, queries: Matrix, limit: int
    ) -> list[Scores]:
        """Returns the nearest chunks to each query."""
        segments = await self._rows.segments(project, scope)
        return await self.compared(project, segments, queries, limit)

    async def compared(
        self, project: str, segments: Sequence[int], queries: Matrix, limit: int
    ) -> list[Scores]:
        """Returns the chunks of segments that are nearest to each query."""
        best = [_Best(limit) for _ in queries]
        for at in range(0, len(segments), SEGMENTS):
            rows = await self._read(project, segments[at : at + SEGMENTS])
            await asyncio.to_thread(_compare, rows, queries, best)
        return [each.scores() for each in best]

    async def scores(self, project: str, queries: Matrix, chunks: Sequence[int]) -> list[Scores]:
        """Returns how near certain chunks are."""
        segments = sorted({id >> CHUNK_BITS for id in chunks})
        found: list[Scores] = [{} for _ in queries]
        for at in range(0, len(segments), SEGMENTS):
            rows = await self._read(project, segments[at : at + SEGMENTS])
            taken = _taken(list(_of_length(rows, queries.shape[1])), chunks)
            if taken is not None:
                for scores, row in zip(found, _products(taken, queries), strict=True):
                    scores.update(zip(taken.ids.tolist(), row.tolist(), strict=True))
        return found

    async def _read(self, project: str, segments: Sequence[int]) -> list[_Rows]:
        """Returns the vectors of segments, those that are kept or read."""
        missing = [each for each in segments if each not in self._kept]
        read = {each: list[_Rows]() for each in missing}
        if missing:
            for row in await self._rows.rows(project, missing):
                read[row.segment].append(_unpack(row))
        found = []
        for segment in segments:
            if segment in read:
                self._keep(segment, read[segment])
                found += read[segment]
            elif (kept := self._kept.get(segment)) is not None:
                self._kept.move_to_end(segment)
                found += kept
        return found

    def _keep(self, segment: int, rows: list[_Rows]) -> None:
        """Keeps what was read, in the place of what was not used for the longest time."""
        size = sum(each.size for each in rows)
        if not rows or size > KEEP_BYTES // 2 or segment in self._kept:
            return
        self._kept[segment] = rows
        self._room -= size
        while self._room < 0:
            _, dropped = self._kept.popitem(last=False)
            self._room += sum(each.size for each in dropped)


class _Best:
    """The greatest of the scores that come in, with their chunks, the greatest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids = np.empty(0, dtype=np.int64)
        self._scores = np.empty(0, dtype=np.float32)

    def take(self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> None:
        if len(self._ids) == self._limit:
            chosen = scores > self._scores[-1]
            ids, scores = ids[chosen], scores[chosen]
        ids = np.concatenate([self._ids, ids])
        scores = np.concatenate([self._scores, scores])
        # Of equals, the chunk that was there first.
        order = np.argsort(-scores, kind="stable")[: self._limit]
        self._ids, self._scores = ids[order], scores[order]

    def scores(self) -> Scores:
        return dict(zip(self._ids.tolist(), self._scores.tolist(), strict=True))


def pack(vectors: Matrix) -> bytes:
    """Returns vectors as they are stored."""
    scales = np.abs(vectors).max(axis=1, initial=0).astype("<f4") / 127
    safe = np.where(scales > 0, scales, 1)
    numbers = np.rint(vectors / safe[:, None]).astype(np.int8)
    return bytes(scales.astype("<f4").tobytes() + numbers.tobytes())


def unpacked(row: ChunkVectors) -> Matrix:
    """Returns the vectors of a row."""
    rows = _unpack(row)
    vectors: Matrix = rows.numbers * rows.scales[:, None]
    return vectors


def _unpack(row: ChunkVectors) -> _Rows:
    scales = np.frombuffer(row.packed, dtype="<f4", count=row.rows)
    numbers = np.frombuffer(row.packed, dtype=np.int8, offset=scales.nbytes)
    ids = np.arange(row.id, row.id + row.rows, dtype=np.int64)
    return _Rows(ids, scales, numbers.reshape(row.rows, -1))


def _compare(rows: Iterable[_Rows], queries: Matrix, best: Sequence[_Best]) -> None:
    for block in _blocks(_of_length(rows, queries.shape[1])):
        for each, scores in zip(best, _products(block, queries), strict=True):
            each.take(block.ids, scores)


def _of_length(rows: Iterable[_Rows], length: int) -> Iterator[_Rows]:
    return (each for each in rows if each.numbers.shape[1] == length)


def _blocks(rows: Iterable[_Rows]) -> Iterator[_Rows]:
    """Yields rows that follow each other together."""
    gathered: list[_Rows] = []
    count = 0
    for each in rows:
        gathered.append(each)
        count += len(each.ids)
        if count >= BLOCK:
            yield _joined(gathered)
            gathered, count = [], 0
    if gathered:
        yield _joined(gathered)


def _taken(rows: Sequence[_Rows], chunks: Iterable[int]) -> _Rows | None:
    """Returns the vectors of those chunks that are in rows, which are in order; None if none is."""
    firsts = [int(each.ids[0]) for each in rows]
    ids = list[int]()
    scales, numbers = [], []
    for id in chunks:
        at = bisect_right(firsts, id) - 1
        if at >= 0 and (place := id - firsts[at]) < len((row := rows[at]).ids):
            ids.append(id)
            scales.append(row.scales[place])
            numbers.append(row.numbers[place])
    return (
        _Rows(np.array(ids), np.array(scales), np.stack(numbers, dtype=np.float32)) if ids else None
    )


def _joined(rows: Sequence[_Rows]) -> _Rows:
    return _Rows(
        np.concatenate([each.ids for each in rows]),
        np.concatenate([each.scales for each in rows]),
        np.concatenate([each.numbers for each in rows], dtype=np.float32),
    )


def _products(rows: _Rows, queries: Matrix) -> npt.NDArray[np.float32]:
    """Returns a row of cosines for each query."""
    products: npt.NDArray[np.float32] = (queries @ rows.numbers.T) * rows.scales
    return products
