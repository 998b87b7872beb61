"""Embeddings: the port, which static word vectors and a server of embeddings implement."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.files.chunking import Chunk

Matrix = npt.NDArray[np.float32]
"""A vector of length 1 in each row; a row of zeros where there is nothing to tell."""


class EmbeddingFailed(Exception):
    """There are no embeddings to be had; the message is one line, for the log."""


class TextRefused(EmbeddingFailed):
    """The embedder does not take one of the texts."""


class Embedder(Protocol):
    """Makes vectors of texts, whose products tell how much the texts are about the same."""

    @property
    def name(self) -> str:
        """What its vectors come from: those of different names cannot be compared."""

    @property
    def weight(self) -> float:
        """How much its vectors count beside full text, 0 to 1."""

    async def documents(self, chunks: Sequence[Chunk]) -> Matrix:
        """Returns the vector of each chunk. Raises EmbeddingFailed."""

    async def queries(self, texts: Sequence[str]) -> Matrix:
        """Returns the vector of each query. Raises EmbeddingFailed."""

    async def close(self) -> None:
        """Closes connections."""


def normalized(rows: Matrix) -> Matrix:
    """Returns rows at length 1; those without a direction stay zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Matrix = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return found
