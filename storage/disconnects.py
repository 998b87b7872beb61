"""Translates the drivers' errors that say that the database is away."""

import sqlite3

import psycopg

from storage.errors import DiskFull, Unreachable

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

DISK_FULL = "53100"
"""PostgreSQL's code of an error for which its disk has no space."""

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

# A quota, or a limit for files, is an error of writing; the index of the log is mapped.
NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


def translate_disconnects(error: BaseException) -> BaseException:
    """Returns Unreachable if the error says that the database is away; else the error itself.

    It is DiskFull where the database answers, but has no space.
    """
    if not is_away(error):
        return error
    kind = DiskFull if _is_full(error) else Unreachable
    away = kind(str(error).strip().partition("\n")[0])
    away.__cause__ = error
    return away


def is_away(error: BaseException) -> bool:
    """Returns whether an error says that the database is away."""
    if isinstance(error, sqlite3.Error):
        # The lowest byte is the kind, the others a detail. Errors of the module itself have none.
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and (code & 0xFF in LOCKED or _is_full(error))
    if isinstance(error, psycopg.Error):
        if error.sqlstate is not None:
            return error.sqlstate.startswith(AWAY) or _is_full(error)
        # Raised by the driver itself: the connection broke, or could not be had.
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return isinstance(error, OSError)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) in NO_SPACE
    return isinstance(error, psycopg.Error) and error.sqlstate == DISK_FULL
