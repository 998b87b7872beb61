"""Tells a database that is away from one that refuses what it was asked."""

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import Unreachable

AWAY = (
    "08",  # the connection is broken
    "57P",  # the server stops, or has not started yet
    "53300",  # it has no connection left for us
    "25006",  # it may be read only: another is the primary now
)
"""What the codes of PostgreSQL's errors begin with that pass without our doing."""

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raises Unreachable in place of an error that says that the database is away."""
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError, sqlite3.OperationalError) as error:
        # The driver's own error, where it came in another's clothes.
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        if not (getattr(error, "connection_invalidated", False) or _is_away(cause)):
            raise
        raise Unreachable(str(cause).partition("\n")[0]) from error


def _is_away(cause: BaseException) -> bool:
    if isinstance(cause, sqlite3.Error):
        # The lowest byte is the kind; the rest tells it more exactly.
        return cause.sqlite_errorcode & 0xFF in LOCKED
    code = getattr(cause, "sqlstate", None)
    if isinstance(code, str):
        return code.startswith(AWAY)
    # No connection could be had: from the system, or from the pool.
    return isinstance(cause, OSError | PoolTimeout)
