"""Pages of a list: one index range over `(parent, position)`, never an offset."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy.orm import Mapped
from sqlmodel import SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import ids
from storage.errors import InvalidCursor

T = TypeVar("T", bound=SQLModel)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What page is asked for: `limit` 1 to 100, cursors are ids of the listed kind."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page in the asked order; `has_more` speaks of the direction of the cursor."""

    data: list[T]
    has_more: bool


async def fetch(
    session: AsyncSession, table: type[T], prefix: str, page: PageRequest, parent: Any, *where: Any
) -> Page[T]:
    """Returns one page of the rows of `table` that meet `parent` (it makes the list) and `where`.

    `after` gives the page right behind its cursor, `before` the page right ahead of it; with both,
    the page behind `after` ends at `before`. Raises InvalidCursor for a cursor that is neither an
    id of our making nor that of a row of the list, whether it meets `where` or not. The row of an
    id of our making may be gone.
    """
    position = _column(table, "position")
    statement = select(table).where(parent, *where)
    descending = page.order == "desc"
    for param, cursor in (("after", page.after), ("before", page.before)):
        if cursor is not None:
            at = await _position(session, table, prefix, param, cursor, parent)
            behind = (param == "after") != descending
            statement = statement.where(position > at if behind else position < at)
    # The page ahead of a cursor is read from the cursor backwards, and turned round.
    backwards = page.before is not None and page.after is None
    ordered = statement.order_by(position.desc() if descending != backwards else position.asc())
    rows = list((await session.exec(ordered.limit(page.limit + 1))).all())
    data = rows[: page.limit]
    return Page(data[::-1] if backwards else data, has_more=len(rows) > page.limit)


async def _position(
    session: AsyncSession,
    table: type[T],
    prefix: str,
    param: str,
    cursor: str,
    parent: Any,
) -> str:
    if (position := ids.position_of(prefix, cursor)) is not None:
        return position
    # An id that was imported from elsewhere does not tell its position.
    statement = select(_column(table, "position")).where(parent, _column(table, "id") == cursor)
    found = (await session.exec(statement)).one_or_none()
    if found is None:
        raise InvalidCursor(param, cursor)
    return str(found)


def _column(table: type[SQLModel], name: str) -> Mapped[str]:
    column: Mapped[str] = getattr(table, name)
    return column
