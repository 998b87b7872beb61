"""Tells a database that is away from one that refuses what it was asked."""

import sqlite3

import psycopg
import structlog

from storage.errors import StorageError, Unreachable

log = structlog.get_logger(__name__)

AWAY = (
    "08",  # the connection is broken
    "57P",  # the server stops, or has not started yet
    "57014",  # the statement took longer than it may
    "55P03",  # a lock was not to be had in time
    "53300",  # it has no connection left for us
    "25006",  # it may be read only: another is the primary now
    "25P03",  # the transaction waited for us longer than it may
    "25P04",  # the transaction took longer than it may
)
"""What the codes of PostgreSQL's errors begin with that pass without our doing."""

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate(error: BaseException) -> BaseException:
    """Returns Unreachable for an error that says that the database is away; else the error."""
    if not is_away(error):
        return error
    away = Unreachable(str(error).strip().partition("\n")[0])
    away.__cause__ = error
    return away


def is_away(error: BaseException) -> bool:
    """Whether an error says that the database is away."""
    if isinstance(error, sqlite3.Error):
        # The lowest byte is the kind; the rest tells it more exactly. The module's own have none.
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in LOCKED
    if isinstance(error, psycopg.Error):
        if error.sqlstate is not None:
            return error.sqlstate.startswith(AWAY)
        # Raised by the driver itself: the connection broke, or could not be had.
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return isinstance(error, OSError)


def report(error: BaseException | None) -> None:
    """Logs the defect for which work failed whose caller has gone; a refusal is nobody's."""
    if error is not None and not isinstance(translate(error), StorageError):
        log.error("what was begun has failed", exc_info=error)
