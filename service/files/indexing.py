"""Indexing: the text of a file becomes a segment of a vector store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from service.files.chunking import Chunk, Chunker, Strategy, TooManyTokens
from service.files.embeddings import Embedder
from service.files.parsing import failed
from service.files.vectors import VectorIndex
from storage.errors import StorageError
from storage.segments import NewChunk, Segments

BATCH = 64
"""Chunks that are added in one transaction: others wait for it no longer than some milliseconds."""


@dataclass(frozen=True, slots=True)
class Built:
    """A segment that is whole, and not visible yet."""

    segment: int
    chunks: int


class Indexer:
    """Builds segments."""

    def __init__(self, segments: Segments, vectors: VectorIndex, embedder: Embedder) -> None:
        """Writes chunks to `segments` and their vectors, which `embedder` makes, to `vectors`."""
        self._segments = segments
        self._vectors = vectors
        self._embedder = embedder

    async def build(
        self, project: str, vector_store_id: str, text: AsyncIterator[str], strategy: Strategy
    ) -> Built:
        """Builds the segment of a text.

        Raises ParseFailed, EmbeddingFailed, LookupError where the segment was swept; whatever
        happens, what is half is invisible, and is swept.
        """
        begun = asyncio.create_task(
            self._segments.begin(project, vector_store_id, self._embedder.name)
        )
        try:
            # Waited for in any case: it has a number once it is stored.
            await asyncio.wait([begun])
            return await self._fill(project, begun.result(), text, strategy)
        except BaseException:
            # Or else it is swept when nobody has added to it for a while.
            with contextlib.suppress(StorageError):
                await asyncio.shield(self._segments.abandon([await begun]))
            raise

    async def _fill(
        self, project: str, segment: int, text: AsyncIterator[str], strategy: Strategy
    ) -> Built:
        chunker = Chunker(strategy)
        waiting: list[Chunk] = []
        count = 0
        try:
            async for piece in text:
                waiting += await asyncio.to_thread(chunker.feed, piece)
                while len(waiting) >= BATCH:
                    await self._add(project, segment, count, waiting[:BATCH])
                    waiting, count = waiting[BATCH:], count + BATCH
            waiting += await asyncio.to_thread(chunker.finish)
        except TooManyTokens:
            raise failed("too_large") from None
        for at in range(0, len(waiting), BATCH):
            await self._add(project, segment, count + at, waiting[at : at + BATCH])
        return Built(segment, count + len(waiting))

    async def _add(self, project: str, segment: int, place: int, chunks: list[Chunk]) -> None:
        vectors = await self._embedder.documents(chunks)
        rows = [NewChunk(each.start, len(each.tokens), each.text) for each in chunks]
        await self._segments.add(
            project, segment, place, rows, lambda tx, first: self._vectors.add(tx, first, vectors)
        )
