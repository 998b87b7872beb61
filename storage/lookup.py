"""Looking up the one row that an id names which a caller gave."""

from typing import TypeVar

from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from storage.errors import NotFound

T = TypeVar("T")


async def by_id(session: AsyncSession, statement: SelectOfScalar[T], kind: str, id: str) -> T:
    """Returns the only row that `statement` selects, by `id`. Raises NotFound, of that `kind`."""
    # PostgreSQL refuses the NUL character, which no id has.
    row = None if "\0" in id else (await session.exec(statement)).one_or_none()
    if row is None:
        raise NotFound(kind, id)
    return row
