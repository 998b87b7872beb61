"""Static embeddings: the mean of the vectors of a text's words, without any server.

Words that tell nothing, and what is between words, count for little: they are most of any text, and
would make all texts alike.
"""

import asyncio
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.files.chunking import PIECE, Chunk
from service.files.embeddings import Matrix, normalized
from service.files.words import Ids, texts, tokenize, vectors
from storage.words import STOP

FAINT = 0.02
"""How much a token counts that tells nothing; not zero, as a text may have no others."""


class StaticEmbedder:
    """Vectors of wordllama: 256 dimensions, English for the most part."""

    name = "wordllama-256-content"
    weight = 0.5

    async def documents(self, chunks: Sequence[Chunk]) -> Matrix:
        """Returns the vector of each chunk."""
        return await asyncio.to_thread(_means, [chunk.tokens for chunk in chunks])

    async def queries(self, texts: Sequence[str]) -> Matrix:
        """Returns the vector of each query."""
        # A question is short; what is not is told by its beginning.
        found = tokenize([text[:PIECE] for text in texts])
        return _means([each.ids for each in found])

    async def close(self) -> None:
        """Does nothing."""


def _means(texts: Sequence[Ids]) -> Matrix:
    rows = np.zeros((len(texts), vectors().shape[1]), dtype=np.float32)
    for row, ids in zip(rows, texts, strict=True):
        # A third of a text's words are different ones: only their vectors are looked up.
        different, counts = np.unique(ids, return_counts=True)
        weights = counts * _weights()[different]
        row[:] = weights @ vectors()[different].astype(np.float32)
    return normalized(rows)


@functools.cache
def _weights() -> npt.NDArray[np.float32]:
    """Returns how much each token counts."""
    words = (text.replace("▁", "").lower() for text in texts())
    return np.array([1.0 if _tells(word) else FAINT for word in words], dtype=np.float32)


def _tells(word: str) -> bool:
    return word not in STOP and not word.startswith("<0x") and any(map(str.isalnum, word))
