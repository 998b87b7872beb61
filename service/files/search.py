"""Hybrid search: full text and vectors, fused by score.

A chunk's score is `(1 - w) * words / best words + w * cosine`, w being the embedder's weight, or 0
where there are no vectors: 0 to 1. Of several queries each chunk has its best score.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice
from operator import itemgetter

import numpy as np
import structlog

from service.files.embeddings import Embedder, EmbeddingFailed, Matrix
from service.files.results import Result
from service.files.vectors import Scores, VectorIndex
from storage.filters import Filter
from storage.rows import VectorStore
from storage.scope import Scope
from storage.segments import Segments, place_of

log = structlog.get_logger(__name__)

CANDIDATES = 100
"""Chunks that each kind of search contributes, at least."""

DIGITS = 6
"""Of a score: of equal vectors, cosines differ in further ones, by where they stand in a matrix."""

MORE = 2
"""Candidates for each result that is asked for, at least."""


class Search:
    """Searches in vector stores."""

    def __init__(self, segments: Segments, vectors: VectorIndex, embedder: Embedder) -> None:
        """Searches what an Indexer of the same parts has built."""
        self._segments = segments
        self._vectors = vectors
        self._embedder = embedder

    async def search(
        self,
        project: str,
        stores: Sequence[VectorStore],
        queries: Sequence[str],
        limit: int,
        threshold: float = 0.0,
        filter: Filter | None = None,
    ) -> list[Result]:
        """Returns the best chunks of files that match `filter`, each once, the best first.

        A file may be in several of the stores: its chunks come once where they are the same there.
        Scores below `threshold` are left out; equals are in the order of files and places. Where
        there are no embeddings to be had, words alone decide.
        """
        count = max(CANDIDATES, MORE * limit)
        scope = Scope(tuple(each.id for each in stores), filter)
        words, near = await asyncio.gather(
            self._by_words(project, scope, queries, count),
            self._by_vectors(project, stores, filter, queries, count),
        )
        vectors, cosines = near
        if len(vectors):
            await self._complete(project, vectors, words, cosines)
        scores = _fused(words, cosines, self._embedder.weight if len(vectors) else 0.0)
        above = (each for each in scores.items() if each[1] >= threshold)
        # Of equals, the first in their file come first.
        ranked = sorted(sorted(above), key=itemgetter(1), reverse=True)
        return await self._results(project, ranked, limit)

    async def _complete(
        self, project: str, vectors: Matrix, words: Sequence[Scores], cosines: Sequence[Scores]
    ) -> None:
        """Adds the cosines of the candidates that are not the nearest to each of the queries."""
        candidates = {id for each in (*words, *cosines) for id in each}
        known = set.intersection(*map(set, cosines))
        scores = await self._vectors.scores(project, vectors, sorted(candidates - known))
        for each, more in zip(cosines, scores, strict=True):
            each |= more

    async def _by_words(
        self, project: str, scope: Scope, queries: Sequence[str], count: int
    ) -> list[Scores]:
        return list(
            await asyncio.gather(
                *(self._segments.with_words(project, scope, each, count) for each in queries)
            )
        )

    async def _by_vectors(
        self,
        project: str,
        stores: Sequence[VectorStore],
        filter: Filter | None,
        queries: Sequence[str],
        count: int,
    ) -> tuple[Matrix, list[Scores]]:
        """Returns the queries' vectors and the nearest chunks; none if there are no vectors."""
        nothing = np.zeros((0, 0), dtype=np.float32), [Scores() for _ in queries]
        known = [each for each in stores if each.embedder is not None]
        if others := [each.id for each in known if each.embedder != self._embedder.name]:
            # What vectors say of the others means nothing, be it that they are as long.
            log.warning("vector stores have vectors of another embedder: reindex", stores=others)
            return nothing
        if not known:
            return nothing
        try:
            vectors = await self._embedder.queries(queries)
        except EmbeddingFailed as error:
            log.warning("search goes by words alone", problem=str(error))
            return nothing
        neighbours = any(each.neighbours is not None for each in known)
        scope = Scope(tuple(each.id for each in known), filter, neighbours=neighbours)
        return vectors, await self._vectors.nearest(project, scope, vectors, count)

    async def _results(
        self, project: str, ranked: Sequence[tuple[int, float]], limit: int
    ) -> list[Result]:
        """Reads the best chunks; in the place of those that have gone or come again, the next."""
        results: dict[tuple[str, int, str], Result] = {}
        rest, portion = iter(ranked), limit
        while len(results) < limit and (part := dict(islice(rest, portion))):
            found = await self._segments.found(project, list(part))
            for each in (found[id] for id in part if id in found):
                if len(results) == limit:
                    break
                result = Result(
                    vector_store_id=each.vector_store_id,
                    file_id=each.file_id,
                    filename=each.filename,
                    attributes=each.attributes,
                    score=part[each.id],
                    text=each.text,
                    tokens=each.tokens,
                    chunk=each.id,
                )
                results.setdefault((each.file_id, place_of(each.id), each.text), result)
            portion = CANDIDATES
        return sorted(results.values(), key=lambda each: (-each.score, each.file_id, each.chunk))


def _fused(words: Sequence[Scores], cosines: Sequence[Scores], weight: float) -> Scores:
    """Returns the best score of each chunk, over all queries."""
    best: Scores = {}
    for texts, vectors in zip(words, cosines, strict=True):
        scores = {id: weight * min(max(cosine, 0.0), 1.0) for id, cosine in vectors.items()}
        most = max(texts.values(), default=0.0) or 1.0
        for id, text in texts.items():
            scores[id] = scores.get(id, 0.0) + (1 - weight) * (text / most)
        for id, score in scores.items():
            best[id] = max(best.get(id, 0.0), round(score, DIGITS))
    return best
