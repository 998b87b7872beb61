"""Full text: which chunks have the words of a query.

Each database has its own: FTS5, ranked by bm25, or tsvector, ranked by ts_rank of each word times
how rare the word is. Both stem English words, and know nothing of languages that do not divide
words. The vector store of a chunk is one of its words, too, so that a search in one store costs
what that store costs.
"""

from collections.abc import Iterable
from typing import Protocol

from storage.fts5 import FTS5
from storage.scope import Scope
from storage.transaction import Transaction
from storage.tsvector import Tsvector
from storage.words import words_of

Scored = list[tuple[int, float]]


class FullText(Protocol):
    """The full text of one kind of database."""

    def add(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Adds chunks of a vector store, by their numbers."""

    def remove(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Removes chunks that were added with these texts."""

    def search(self, tx: Transaction, scope: Scope, words: list[str], limit: int) -> Scored:
        """Returns the chunks in scope that have some of the words, the best first.

        Scores tell the order only: they are positive, and those of two queries cannot be compared.
        There is at least one word, and one vector store.
        """


def full_text_of(dialect: str) -> FullText:
    """Returns the full text of a kind of database; one that remembers what it finds out."""
    return FTS5() if dialect == "sqlite" else Tsvector()


def search(full_text: FullText, tx: Transaction, scope: Scope, query: str, limit: int) -> Scored:
    """Returns the chunks in scope that have words of a query; see FullText."""
    words = words_of(query)
    return full_text.search(tx, scope, words, limit) if words and scope.stores else []
