"""Full text of SQLite: a virtual table without content, ranked by bm25.

It has two columns; only the text's words count.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from storage.filters import Filtered
from storage.scope import ENTRIES, Scope, in_scope
from storage.statements import Statement, param
from storage.transaction import Transaction
from storage.words import plain, store_word

MAX_WORDS = 32
"""Words of a query that are looked for."""

AFFORDABLE = 3_000
"""Chunks that are ranked for a query, about. Of the commonest words, only those chunks are ranked
that have a rarer one, too."""

COUNTS_HOLD = 600.0
"""Seconds for which it is remembered how common a word is."""

MAX_COUNTS = 50_000

_TABLE = sa.table(
    "chunk_words",
    *(sa.column(name, sa.String()) for name in ("chunk_words", "store", "body")),
    sa.column("rowid", sa.BigInteger()),
)
_ROW = {"rowid": param("id", _TABLE.c.rowid), "store": param("store"), "body": param("body")}


def _matches(query: str) -> Any:
    whole = sa.literal_column("chunk_words", sa.String())
    return whole.op("MATCH")(param(query, _TABLE.c.body))


def _search(where: sa.ColumnElement[bool]) -> sa.Executable:
    rank = sa.literal_column("rank", sa.Float())
    return (
        sa.select(_TABLE.c.rowid, -rank)
        .where(
            _matches("query"),
            rank.op("MATCH")(sa.literal_column("'bm25(0.0, 1.0)'")),
            in_scope(_TABLE.c.rowid, where),
        )
        # FTS5 gives them in this order by itself, and those in scope are all that is looked up.
        .order_by(rank)
        .limit(param("limit", sa.column("", sa.Integer())))
    )


class FTS5:
    """Adds, removes and finds chunks."""

    INSERT: Statement[Any] = Statement(sa.insert(_TABLE).values(_ROW))
    DELETE: Statement[Any] = Statement(
        sa.insert(_TABLE).values({"chunk_words": sa.literal_column("'delete'"), **_ROW})
    )
    SEARCH: Filtered[Any] = Filtered(_search)
    COUNT: Statement[Any] = Statement(
        sa.select(sa.func.count()).select_from(_TABLE).where(_matches("query"))
    )

    def __init__(self) -> None:
        """Knows nothing yet of how common words are."""
        self._counts: dict[str, tuple[int, float]] = {}

    def add(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Adds chunks of a vector store."""
        tx.many(self.INSERT, _rows(store_id, chunks))

    def remove(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Removes chunks, for which their texts are needed: the table has none."""
        tx.many(self.DELETE, _rows(store_id, chunks))

    def search(
        self, tx: Transaction, scope: Scope, words: list[str], limit: int
    ) -> list[tuple[int, float]]:
        """Returns the chunks that have some of the words."""
        stores = " OR ".join(f"store:{store_word(each)}" for each in scope.stores)
        words = words[:MAX_WORDS]
        rarest = self._affordable(tx, stores, words)
        statement, params = self.SEARCH.of(scope.filter, ENTRIES.c.attributes)
        found = tx.all(
            statement,
            query=_query(stores, rarest, words),
            stores=list(scope.stores),
            limit=limit,
            **params,
        )
        return [(int(id), float(score)) for id, score in found]

    def _affordable(self, tx: Transaction, stores: str, words: list[str]) -> list[str]:
        """Returns the words that chunks must have: any, or the rarest, which few chunks have."""
        if self._count(tx, stores) <= AFFORDABLE:
            return words
        counts = {word: self._count(tx, _query(stores, [word])) for word in words}
        # A word that no chunk has costs nothing, and says nothing.
        known = [word for word in words if counts[word]] or words
        first, *others = sorted(known, key=counts.__getitem__)
        total, chosen = counts[first], [first]
        for word in others:
            total += counts[word]
            if total > AFFORDABLE:
                break
            chosen.append(word)
        return chosen

    def _count(self, tx: Transaction, query: str) -> int:
        """Returns how many chunks match, or did a while ago."""
        known = self._counts.get(query)
        if known is not None and time.monotonic() - known[1] < COUNTS_HOLD:
            return known[0]
        if len(self._counts) > MAX_COUNTS:
            self._counts.clear()
        found = int(tx.value(self.COUNT, query=query))
        if found:
            # To count none is fast, and the first chunk that has the word is to be found by it.
            self._counts[query] = found, time.monotonic()
        return found


def _rows(store_id: str, chunks: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    store = store_word(store_id)
    return [{"id": id, "store": store, "body": plain(text)} for id, text in chunks]


def _query(stores: str, needed: Sequence[str], words: Sequence[str] = ()) -> str:
    """Returns the query for chunks that have one of the words that are needed.

    All words count for their rank.
    """
    found = f"({stores}) AND body:({_any(needed)})"
    return found if set(needed) >= set(words) else f"{found} AND body:({_any(words)})"


def _any(words: Sequence[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)
