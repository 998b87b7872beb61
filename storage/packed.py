"""Many rows in one step of SQLite: as JSON texts, one for each column.

Each step of SQLite gives up Python's lock and takes it again. Beside a busy loop that costs more
than the row itself.
"""

import sqlite3
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa

from storage import rows
from storage.statements import Compiled, Statement, compile
from storage.transaction import Transaction

T = TypeVar("T")


class Packed(Statement[T]):
    """A statement that selects whole rows of a class, which SQLite returns in one step."""

    def __init__(
        self, core: sa.Select[Any], row: type[T], by: Sequence[sa.Column[Any]], *, descending: bool
    ) -> None:
        """Selects all columns of the table of `row`, in the order of `by`."""
        core = core.order_by(*(each.desc() if descending else each.asc() for each in by))
        super().__init__(core, row)
        self._of: type[T] = row
        self._key = attrgetter(*(each.name for each in by))
        self._descending = descending
        self.apart = Statement(core, row)
        """The same, row by row everywhere."""

    def all(self, tx: Transaction, **params: Any) -> list[T]:
        """Returns all rows."""
        try:
            return tx.all(self, **params)
        except sqlite3.DataError:
            if tx.brief:
                raise
            # A text of them all is too long for SQLite.
            return tx.all(self.apart, **params)

    def _compile(self, database: str) -> Compiled[T]:
        if database != "sqlite":
            return super()._compile(database)
        page = self._core.subquery("page").c
        columns = [page[column] for column, _ in rows.columns(self._of)]

        def unpack(given: Sequence[Sequence[str]]) -> list[T]:
            [texts] = given
            found = list(map(self._of, *map(orjson.loads, texts)))
            # What is aggregated has no order that SQLite would promise.
            found.sort(key=self._key, reverse=self._descending)
            return found

        return compile(sa.select(*map(_all_of, columns)), database, unpack)


def _all_of(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Returns the expression of the list of a column's values, as JSON."""
    value = sa.type_coerce(column, sa.String())
    if isinstance(column.type, sa.Boolean):
        is_false = value == sa.literal_column("0")
        null, false, true = map(_literal, ("null", "false", "true"))
        shown = sa.case((value.is_(sa.null()), null), (is_false, false), else_=true)
    elif isinstance(column.type, sa.JSON | sa.Float):
        # Of a number SQLite itself shows 15 digits; 20 are always read as the same one. A document
        # is JSON text, but SQLite keeps one that is a number as the number.
        is_real = sa.func.typeof(value) == _literal("real")
        digits = sa.func.printf(_literal("%!.20g"), value)
        shown = sa.case((is_real, digits), else_=sa.func.coalesce(value, _literal("null")))
    else:
        return sa.func.json_group_array(value)
    listed = sa.func.coalesce(sa.func.group_concat(shown), _literal(""))
    return _literal("[").concat(listed).concat(_literal("]"))


def _literal(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.String())
