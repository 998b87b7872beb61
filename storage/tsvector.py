"""Full text of PostgreSQL: a table of lexemes with their places, and an index of them.

ts_rank does not know how rare a word is: each word is ranked by itself, and counts for what
PostgreSQL's statistics say of it. It also reads all lexemes of a chunk, which are kilobytes out of
line, so few chunks may be ranked: those that have the most of the words, each counting for how rare
it is. The index alone finds them.
"""

import itertools
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR

from storage.filters import Filtered
from storage.scope import ENTRIES, Scope, in_scope
from storage.statements import Statement, param
from storage.transaction import Transaction
from storage.words import plain, store_word

MAX_WORDS = 16
"""Words of a query that are looked for: the rarest."""

AFFORDABLE = 1_000
"""Chunks that are found for each word, about. Of a word of which there are more, those are found
that have one of the rarest words too."""

FREQUENT = math.log(1 + 1 / 0.1)
"""The weight of a word that a tenth of the chunks have. Those that are more frequent only count for
the rank, where there are others to find chunks by."""

MOST = 0.5
"""A part of the chunks that is searched as fast by leaving others out as by their vector store."""

RANKED = 100
"""Chunks that are ranked at least."""

RATES_HOLD = 60.0
"""Seconds for which it is remembered what the statistics say."""

RARE = 1e-5
"""How often a word is taken to occur of which the statistics know nothing."""

_TABLE = sa.table("chunk_words", sa.column("id", sa.BigInteger()), sa.column("words", TSVECTOR()))
_TEXT = sa.column("", sa.String())
_COUNT = sa.column("", sa.Integer())
_ENGLISH: Any = sa.literal_column("'english'::regconfig")
_SIMPLE: Any = sa.literal_column("'simple'::regconfig")
_BY_LENGTH: Any = sa.literal_column("1")
"""ts_rank's way to count the words of long texts for less."""

_LEXEMES = """
SELECT tsvector_to_array(to_tsvector('english', :words)),
    set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true)
"""
"""With the settings of the transaction: the planner knows nothing of how long it takes to read
lexemes, and would read those of every chunk. It is not to plan each search anew, whose words it
does not see."""

_STATISTICS = """
SELECT most_common_elems::text::text[], most_common_elem_freqs,
    (SELECT reltuples FROM pg_class WHERE oid = to_regclass('chunk_words'))
FROM pg_stats
WHERE schemaname = current_schema() AND tablename = 'chunk_words' AND attname = 'words'
"""

_MERGE = """
SELECT gin_clean_pending_list(oid) FROM pg_class
WHERE oid = to_regclass('chunk_words_by_word') AND pg_has_role(relowner, 'USAGE')
"""
"""Puts what was added into the index. PostgreSQL does so by itself, but one process at a time, and
nobody waits for that: several who add fast are ahead of it, until one of them is cancelled for how
long it takes. So each does it for what it adds, and waits for the others."""


@dataclass(frozen=True, slots=True)
class _Rates:
    """What the statistics know of the commonest words: which part of the chunks has each."""

    chunks: float = 0.0
    of_words: Mapping[str, float] = field(default_factory=dict)
    least: float = 1.0
    """The rate that no other word exceeds."""

    def part(self, stores: Iterable[str]) -> float:
        """Returns which part of the chunks is in vector stores, at most and about."""
        return min(sum(self.of_words.get(each, self.least) for each in stores), 1.0)

    def affordable(self, words: Iterable[str], part: float) -> int:
        """Returns how many of the rarest words few enough chunks of a part have; at least one."""
        found = itertools.accumulate(
            self.chunks * part * self.of_words.get(each, self.least) for each in words
        )
        return max(sum(each <= AFFORDABLE for each in found), 1)


def _records(name: str, **columns: Any) -> Any:
    """Returns the rows that a parameter is a list of, as objects of JSON."""
    given = sa.func.json_to_recordset(param(name, sa.column("", sa.JSON())))
    found = given.table_valued(*(sa.column(each, kind) for each, kind in columns.items()))
    return found.render_derived(name="given", with_types=True)


_CHUNKS = _records("chunks", id=sa.BigInteger(), body=sa.Text())
# Nothing is found by null: such a word only counts for the rank.
_WORDS = _records("words", found=sa.Text(), word=sa.Text(), weight=sa.Float(53))


def _quoted(lexeme: str) -> str:
    """Returns a lexeme as a tsquery has it."""
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _any_of(lexemes: Iterable[str]) -> str:
    return f"({' | '.join(map(_quoted, lexemes))})"


def _build(where: sa.ColumnElement[bool]) -> sa.Executable:
    """Returns the statement that finds chunks and ranks them, with a condition of their entries."""
    # Read once: each chunk that is ranked would read the words again.
    word = (
        sa.select(
            sa.cast(_WORDS.c.found, TSQUERY).label("found"),
            sa.cast(_WORDS.c.word, TSQUERY).label("word"),
            _WORDS.c.weight,
        )
        .cte("word")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    found = (
        sa.select(_TABLE.c.id, sa.func.sum(word.c.weight).label("weight"))
        .join(word, _TABLE.c.words.op("@@")(word.c.found))
        .group_by(_TABLE.c.id)
        .order_by(sa.desc("weight"), _TABLE.c.id)
        .offset(sa.literal_column("0"))
        .subquery("found")
    )
    best = (
        sa.select(found.c.id)
        # The best first, until there are enough: a vector store may have many more entries. Of
        # those that a filter leaves, there may never be enough.
        .where(in_scope(found.c.id, where, by_itself=isinstance(where, sa.True_)))
        .order_by(found.c.weight.desc(), found.c.id)
        .limit(param("ranked", _COUNT))
        .cte("best")
        # Else the planner may rank what it has not chosen.
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    # Changed in nothing, but read once: each word's rank would read them again.
    lexemes: Any = sa.func.setweight(_TABLE.c.words, sa.literal_column("'D'"))
    read = (
        sa.select(lexemes.label("words"))
        .where(_TABLE.c.id == best.c.id)
        .correlate(best)
        .offset(sa.literal_column("0"))
        .lateral("read")
    )
    rank = sa.func.ts_rank(read.c.words, word.c.word, _BY_LENGTH)
    score = (
        sa.select(sa.func.sum(rank * word.c.weight))
        .select_from(read.join(word, sa.true()))
        .correlate(best)
        .scalar_subquery()
        .label("score")
    )
    return (
        sa.select(best.c.id, score)
        .order_by(sa.desc("score"), best.c.id)
        .limit(param("limit", _COUNT))
    )


_SEARCH: Filtered[Any] = Filtered(_build)


class Tsvector:
    """Adds, removes and finds chunks."""

    INSERT: Statement[Any] = Statement(
        sa.insert(_TABLE).from_select(
            ["id", "words"],
            sa.select(
                _CHUNKS.c.id,
                sa.func.to_tsvector(_ENGLISH, _CHUNKS.c.body).op("||")(
                    sa.func.to_tsvector(_SIMPLE, param("store", _TEXT))
                ),
            ),
        )
    )
    DELETE: Statement[Any] = Statement(
        sa.delete(_TABLE).where(_TABLE.c.id == param("id", _TABLE.c.id))
    )
    MERGE: Statement[Any] = Statement(sa.text(_MERGE))
    LEXEMES: Statement[Any] = Statement(sa.text(_LEXEMES))
    RATES: Statement[Any] = Statement(sa.text(_STATISTICS))

    def __init__(self) -> None:
        """Knows nothing yet of how common words are."""
        self._known: tuple[_Rates, float] = _Rates(), -math.inf

    def add(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Adds chunks of a vector store."""
        given = [{"id": id, "body": plain(text)} for id, text in chunks]
        tx.run(self.INSERT, chunks=given, store=store_word(store_id))
        tx.run(self.MERGE)

    def remove(self, tx: Transaction, store_id: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Removes chunks."""
        tx.many(self.DELETE, [{"id": id} for id, _ in chunks])

    def search(
        self, tx: Transaction, scope: Scope, words: list[str], limit: int
    ) -> list[tuple[int, float]]:
        """Returns the chunks that have some of the words."""
        lexemes = tx.value(self.LEXEMES, words=" ".join(words))
        if not lexemes:
            # Words that no text is found by, such as those of more than 2,046 bytes.
            return []
        rates = self._rates(tx)
        ranked = sorted(lexemes, key=lambda each: rates.of_words.get(each, RARE))[:MAX_WORDS]
        weights = {each: math.log(1 + 1 / rates.of_words.get(each, RARE)) for each in ranked}
        stores = [store_word(each) for each in scope.stores]
        part = rates.part(stores)
        # Of nearly all chunks, those of other vector stores are left out when they are found.
        within = "" if rates.chunks > 0 and part > MOST else f" & {_any_of(stores)}"
        while weights:
            first = rates.affordable(weights, part)
            if found := self._found(tx, scope, within, weights, first, limit):
                return found
            # Words that are nowhere are not to hide the others.
            weights = dict(itertools.islice(weights.items(), first, None))
        return []

    def _found(
        self,
        tx: Transaction,
        scope: Scope,
        within: str,
        weights: Mapping[str, float],
        first: int,
        limit: int,
    ) -> list[tuple[int, float]]:
        """Returns the chunks that have some of the first words, and how well they have all.

        Each query of a word ends with `within`, which says in which vector stores.
        """
        rarest = [*weights][:first]
        queries = {word: _quoted(word) + within for word in rarest}
        others = [word for word, weight in weights.items() if weight > FREQUENT][first:]
        queries |= {word: f"{_quoted(word)}{within} & {_any_of(rarest)}" for word in others}
        given = [
            {"found": queries.get(word), "word": _quoted(word), "weight": weight}
            for word, weight in weights.items()
        ]
        statement, filtered = _SEARCH.of(scope.filter, ENTRIES.c.attributes)
        rows = tx.all(
            statement,
            words=given,
            stores=list(scope.stores),
            ranked=max(RANKED, limit),
            limit=limit,
            **filtered,
        )
        return [(int(id), float(score)) for id, score in rows]

    def _rates(self, tx: Transaction) -> _Rates:
        """Returns what the statistics say, or said a while ago."""
        known, at = self._known
        if time.monotonic() - at < RATES_HOLD:
            return known
        row = tx.one(self.RATES)
        if row is None or row[0] is None:
            # A table that was never analyzed is small, or about to be.
            return _Rates()
        # Behind the rates of the words are the least and the greatest of them.
        of_words = dict(zip(row[0], row[1], strict=False))
        rates = _Rates(row[2], of_words, min(of_words.values(), default=1.0))
        self._known = rates, time.monotonic()
        return rates
