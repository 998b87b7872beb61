"""Looks up the row with an id that a caller gave."""

from typing import Any, TypeVar

from storage.errors import NotFound
from storage.statements import Statement
from storage.transaction import Transaction

T = TypeVar("T")


def by_id(tx: Transaction, statement: Statement[T], kind: str, id: str, **params: Any) -> T:
    """Returns the only row that `statement` selects, by `id`. Raises NotFound, of that `kind`."""
    # PostgreSQL refuses the NUL character, which no id has.
    row = None if "\0" in id else tx.one(statement, id=id, **params)
    if row is None:
        raise NotFound(kind, id)
    return row
