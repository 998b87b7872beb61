"""Pages of a list: one index range over `(parent, position)`, never an offset."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import sqlalchemy as sa

from storage import ids, tables
from storage.errors import InvalidCursor
from storage.packed import Packed
from storage.rows import table
from storage.statements import Statement, param
from storage.transaction import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What page is asked for: `limit` is at least 1, cursors are ids of the listed kind."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page in the asked order; `has_more` speaks of the direction of the cursor."""

    data: list[T]
    has_more: bool


class List(Generic[T]):
    """A list of rows of a class: `parent` makes it, and `where` narrows it, with parameters."""

    def __init__(
        self,
        row: type[T],
        prefix: str | None,
        parent: sa.ColumnElement[bool],
        *where: sa.ColumnElement[bool],
        key: str = "id",
    ) -> None:
        """Lists objects whose ids begin with `prefix`, and hold their positions; or, without it,
        objects that callers know by a `key` that is the id of something else.
        """
        self._row = row
        self._prefix = prefix
        self._table = table(getattr(tables, row.__name__))
        self._where = (parent, *where)
        self._statements: dict[tuple[bool, ...], Packed[T]] = {}
        # An id that was imported from elsewhere may hold no position.
        known = self._table.c[key] == param("id")
        imported = sa.select(self._table.c.position).where(parent, known)
        self._position: Statement[Any] = Statement(imported)

    def page(self, tx: Transaction, page: PageRequest, **params: Any) -> Page[T]:
        """Returns one page.

        `after` gives the page right behind its cursor, `before` the page right ahead of it; with
        both, the page behind `after` ends at `before`. Raises InvalidCursor for a cursor that is
        neither an id of our making nor that of a row of the list, whether it meets `where` or not.
        The row of an id of our making may be gone.
        """
        given: dict[str, Any] = {}
        for name, cursor in (("after", page.after), ("before", page.before)):
            if cursor is not None:
                given[name] = self._position_of(tx, name, cursor, params)
        # The page ahead of a cursor is read from the cursor backwards, and turned round.
        backwards = page.before is not None and page.after is None
        statement = self._statement(
            page.order == "desc", backwards, page.after is not None, page.before is not None
        )
        rows = statement.all(tx, limit=page.limit + 1, **given, **params)
        data = rows[: page.limit]
        return Page(data[::-1] if backwards else data, has_more=len(rows) > page.limit)

    def _position_of(self, tx: Transaction, name: str, cursor: str, params: dict[str, Any]) -> str:
        prefix = self._prefix
        if prefix is not None and (position := ids.position_of(prefix, cursor)) is not None:
            return position
        known = self._position.parameters()
        found = None
        if "\0" not in cursor:
            own = {key: value for key, value in params.items() if key in known}
            found = tx.value(self._position, id=cursor, **own)
        if found is None:
            raise InvalidCursor(name, cursor)
        return str(found)

    def _statement(self, descending: bool, backwards: bool, after: bool, before: bool) -> Packed[T]:
        shape = (descending, backwards, after, before)
        if (found := self._statements.get(shape)) is None:
            position = self._table.c.position
            statement = sa.select(self._table).where(*self._where)
            for name, is_given in (("after", after), ("before", before)):
                if is_given:
                    behind = (name == "after") != descending
                    at = param(name, position)
                    statement = statement.where(position > at if behind else position < at)
            limited = statement.limit(param("limit", sa.column("", sa.Integer())))
            found = self._statements[shape] = Packed(
                limited, self._row, [position], descending=descending != backwards
            )
        return found
