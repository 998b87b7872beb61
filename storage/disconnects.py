"""Translates the drivers' errors that say that the database is away."""

import sqlite3

import psycopg

from storage.errors import Unreachable

AWAY = (
    "08",  # the connection is broken
    "57P",  # the server stops, or has not started yet
    "57014",  # the statement took longer than it may
    "55P03",  # a lock could not be taken in time
    "53300",  # it has no connection left for us
    "25006",  # it may be read only: another is the primary now
    "25P03",  # the transaction waited for us longer than it may
    "25P04",  # the transaction took longer than it may
)
"""What the codes begin with of PostgreSQL's errors that pass by themselves."""

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate_disconnects(error: BaseException) -> BaseException:
    """Returns Unreachable if the error says that the database is away; else the error itself."""
    if not is_away(error):
        return error
    away = Unreachable(str(error).strip().partition("\n")[0])
    away.__cause__ = error
    return away


def is_away(error: BaseException) -> bool:
    """Returns whether an error says that the database is away."""
    if isinstance(error, sqlite3.Error):
        # The lowest byte is the kind, the others a detail. Errors of the module itself have none.
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in LOCKED
    if isinstance(error, psycopg.Error):
        if error.sqlstate is not None:
            return error.sqlstate.startswith(AWAY)
        # Raised by the driver itself: the connection broke, or could not be had.
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return isinstance(error, OSError)
