"""The index of vectors: the port, which packed matrices and pgvector implement.

An index is changed in the transactions that change the chunks, and so is never ahead of or behind
them. It finds by the cosine of the angle between a query and each vector in scope: exactly, or
nearly, as an index of neighbours does.
"""

from collections.abc import Sequence
from typing import Protocol

from service.files.embeddings import Matrix
from storage.scope import Scope
from storage.transaction import Transaction

Scores = dict[int, float]
"""Cosines by the numbers of chunks."""


class VectorIndex(Protocol):
    """The vectors of all chunks."""

    async def open(self) -> None:
        """Looks at what the database has, before anything else is done. Raises StorageError."""

    async def work(self) -> None:
        """Does what is to be done beside all else, until it is cancelled or there is no more."""

    def add(self, tx: Transaction, first: int, vectors: Matrix) -> int:
        """Adds the vectors of chunks of one segment, from that of a number on.

        Returns the bytes that they take.
        """

    def remove(self, tx: Transaction, first: int) -> int:
        """Removes those of a segment from the chunk of a number on.

        Some may be left that were added together with one before it. Returns the bytes that are
        freed, or zero if that is not known.
        """

    async def nearest(
        self, project: str, scope: Scope, queries: Matrix, limit: int
    ) -> list[Scores]:
        """Returns, for each query, the `limit` chunks in scope that are nearest to it.

        Vectors of another length than the queries' are passed over.
        """

    async def scores(self, project: str, queries: Matrix, chunks: Sequence[int]) -> list[Scores]:
        """Returns, for each query, how near certain chunks are.

        Those without a vector are left out.
        """
