"""Full text of PostgreSQL: a table of lexemes with their places, and an index of them.

ts_rank does not know how rare a word is: each word is ranked by itself, and counts for what
PostgreSQL's statistics say of it.
"""

import functools
import math
import operator
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

from storage.filters import Filtered
from storage.scope import ENTRIES, Scope, in_scope
from storage.statements import Statement, param
from storage.transaction import Transaction
from storage.words import plain, store_word

MAX_WORDS = 32
"""Words of a query that are looked for: the rarest."""

CANDIDATE_WORDS = 3
"""A chunk must have one of these, the rarest of them."""

RARE = 1e-5
"""How often a word is taken to occur of which the statistics know nothing."""

_TABLE = sa.table("chunk_words", sa.column("id", sa.BigInteger()), sa.column("words", TSVECTOR()))
_TEXT = sa.column("", sa.String())
_RATE = sa.column("", sa.Float(53))
_ENGLISH: Any = sa.literal_column("'english'::regconfig")
_SIMPLE: Any = sa.literal_column("'simple'::regconfig")
_BY_LENGTH: Any = sa.literal_column("1")
"""ts_rank's way to count the words of long texts for less."""

_STATISTICS = sa.table(
    "pg_stats",
    *(sa.column(name) for name in ("schemaname", "tablename", "attname", "most_common_elems")),
    sa.column("most_common_elem_freqs"),
)


def _one_word(name: str) -> Any:
    return sa.func.plainto_tsquery(_SIMPLE, param(name, _TEXT))


def _any_of(names: Iterable[str]) -> Any:
    query, *others = map(_one_word, names)
    for each in others:
        query = query.op("||")(each)
    return sa.func.coalesce(query)


@functools.lru_cache(512)
def _search(words: int, needed: int, stores: int) -> Filtered[Any]:
    """Returns the statement for so many words, one of the first of which is needed, and stores."""

    def build(where: sa.ColumnElement[bool]) -> sa.Executable:
        candidates = _any_of(f"word_{n}" for n in range(needed))
        within = _any_of(f"store_{n}" for n in range(stores))
        ranks = (
            sa.func.ts_rank(_TABLE.c.words, _one_word(f"word_{n}"), _BY_LENGTH)
            * param(f"weight_{n}", _RATE)
            for n in range(words)
        )
        score: Any = functools.reduce(operator.add, ranks)
        return (
            sa.select(_TABLE.c.id, score.label("score"))
            .where(
                _TABLE.c.words.op("@@")(candidates.op("&&")(within)), in_scope(_TABLE.c.id, where)
            )
            .order_by(sa.desc("score"), _TABLE.c.id)
            .limit(param("limit", sa.column("", sa.Integer())))
        )

    return Filtered(build)


class Tsvector:
    """Adds, removes and finds chunks."""

    INSERT: Statement[Any] = Statement(
        sa.insert(_TABLE).values(
            id=param("id", _TABLE.c.id),
            words=sa.func.to_tsvector(_ENGLISH, param("body", _TEXT)).op("||")(
                sa.func.to_tsvector(_SIMPLE, param("store", _TEXT))
            ),
        )
    )
    DELETE: Statement[Any] = Statement(
        sa.delete(_TABLE).where(_TABLE.c.id == param("id", _TABLE.c.id))
    )
    LEXEMES: Statement[Any] = Statement(
        sa.select(sa.func.tsvector_to_array(sa.func.to_tsvector(_ENGLISH, param("words", _TEXT))))
    )
    RATES: Statement[Any] = Statement(
        sa.select(
            sa.literal_column("most_common_elems::text::text[]"),
            sa.literal_column("most_common_elem_freqs"),
        )
        .select_from(_STATISTICS)
        .where(
            _STATISTICS.c.schemaname == sa.literal_column("current_schema()"),
            _STATISTICS.c.tablename == sa.literal_column("'chunk_words'"),
            _STATISTICS.c.attname == sa.literal_column("'words'"),
        )
    )

    def add(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Adds chunks of a vector store."""
        store = store_word(store_id)
        tx.many(
            self.INSERT, [{"id": id, "store": store, "body": plain(text)} for id, text in chunks]
        )

    def remove(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Removes chunks."""
        tx.many(self.DELETE, [{"id": id} for id, _ in chunks])

    def search(
        self, tx: Transaction, scope: Scope, words: list[str], limit: int
    ) -> list[tuple[int, float]]:
        """Returns the chunks that have some of the words."""
        lexemes = tx.value(self.LEXEMES, words=" ".join(words)) or words
        rates = self._rates(tx)
        ranked = sorted(lexemes, key=lambda each: rates.get(each, RARE))[:MAX_WORDS]
        params: dict[str, Any] = {}
        for n, word in enumerate(ranked):
            params[f"word_{n}"] = word
            params[f"weight_{n}"] = math.log(1 + 1 / rates.get(word, RARE))
        for n, store in enumerate(scope.stores):
            params[f"store_{n}"] = store_word(store)
        # A table that was never analyzed is small, or about to be.
        needed = min(len(ranked), CANDIDATE_WORDS) if rates else len(ranked)
        shape = _search(len(ranked), needed, len(scope.stores))
        statement, filtered = shape.of(scope.filter, ENTRIES.c.attributes)
        found = tx.all(statement, stores=list(scope.stores), limit=limit, **params, **filtered)
        return [(int(id), float(score)) for id, score in found]

    def _rates(self, tx: Transaction) -> dict[str, float]:
        """Returns which part of the chunks has a word, for the commonest words."""
        row = tx.one(self.RATES)
        if row is None or row[0] is None:
            return {}
        # Behind the rates of the words are the least and the greatest of them.
        return dict(zip(row[0], row[1], strict=False))
