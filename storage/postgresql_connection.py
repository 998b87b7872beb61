"""A connection to PostgreSQL: statements that are prepared once, each one call of the driver.

While it waits for an answer, a thread holds nothing that others need. It takes back the
interpreter's lock once for each statement: with psycopg's own cursors, which look at the socket by
themselves, it would do so eight times, and threads that work beside others mostly wait for it.
"""

import contextlib
import functools
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from os import dup
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.types.string import TextLoader

PREPARED = 250
"""Statements that a connection keeps prepared; those that come later are prepared each time."""

_ANY, _FLOAT = 0, psycopg.postgres.types["float8"].oid
_DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Connection:
    """A connection that whoever waits for it may give up, from another thread."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        """Takes over a connection of the driver's, which is in autocommit mode."""
        for kind in ("json", "jsonb"):
            # Rows are made of the texts (storage/statements.py), on every database.
            driver.adapters.register_loader(kind, TextLoader)
        self.patience: float | None = None
        """Seconds within which each statement is answered."""
        self.silent = False
        """Whether it was given up, because an answer did not come in time."""
        self.limit: float | None = None
        """The same for statements that may take long."""
        self._driver = driver
        self._pg = driver.pgconn
        self._pg.nonblocking = 0
        # The driver closes its own where it likes: its number may be another file's by then.
        self._socket = socket.socket(fileno=dup(self._pg.socket))
        self._values = Transformer(driver)
        self._prepared: dict[tuple[str, tuple[int, ...]], bytes] = {}
        """Names, by what they are prepared for: a statement, and the types of its parameters."""
        self._deadline: float | None = None

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._driver.closed

    def close(self) -> None:
        """Closes it."""
        self._driver.close()
        self._socket.close()

    def give_up_if_silent(self) -> None:
        """Ends the wait of the thread that uses it, if the answer is overdue: it has failed."""
        deadline = self._deadline
        if deadline is not None and time.monotonic() > deadline:
            self.give_up()

    def give_up(self) -> None:
        """Ends the wait of the thread that uses it: it has failed."""
        self.silent = True
        # It may have ended already.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def command(self, command: bytes, patience: float | None) -> bytes:
        """Executes what has no parameters; returns what was done. Closes itself if that fails."""
        try:
            return self._answer(patience, self._pg.exec_, command).command_status or b""
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str, params: Mapping[str, Any]) -> pq.abc.PGresult:
        """Returns the result of a statement of Core's for psycopg. Raises psycopg.Error."""
        text, names, formats = _numbered(sql)
        values = [params[name] for name in names]
        given = self._values.dump_sequence(values, formats)
        # The statement says what its parameters are, but for those that are floats.
        types = tuple([_FLOAT if type(value) is float else _ANY for value in values])
        if (name := self._prepared.get((sql, types))) is None:
            keeps = len(self._prepared) < PREPARED
            name = b"s%d" % len(self._prepared) if keeps else b""
            self._answer(self.patience, self._pg.prepare, name, text, types)
            if keeps:
                self._prepared[sql, types] = name
        return self._answer(self.patience, self._pg.exec_prepared, name, given)

    def rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """Returns the rows of a result."""
        self._values.set_pgresult(result)
        return self._values.load_rows(0, result.ntuples, tuple)

    def _answer(self, patience: float | None, call: Any, *args: Any) -> pq.abc.PGresult:
        self._deadline = None if patience is None else time.monotonic() + patience
        try:
            result: pq.abc.PGresult = call(*args)
        except MemoryError:
            # There is no result at all where the connection was lost before.
            raise psycopg.OperationalError(self._pg.get_error_message()) from None
        finally:
            self._deadline = None
        if result.status in _DONE:
            return result
        error = error_from_result(result, self._values.encoding)
        if error.sqlstate is None:
            # Not the server's: it was lost meanwhile.
            raise psycopg.OperationalError(str(error))
        raise error


class Cursor:
    """What a transaction needs of a driver's cursor."""

    def __init__(self, connection: Connection) -> None:
        """Executes on `connection`."""
        self._connection = connection
        self._result: pq.abc.PGresult | None = None

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed."""
        assert self._result is not None
        return self._result.command_tuples or 0

    def execute(self, sql: str, params: Mapping[str, Any] = MappingProxyType({}), /) -> None:
        """Executes one statement."""
        self._result = self._connection.execute(sql, params)

    def executemany(self, sql: str, params: Iterable[Mapping[str, Any]], /) -> None:
        """Executes one statement for each set of parameters."""
        for each in params:
            self.execute(sql, each)

    def fetchone(self) -> tuple[Any, ...] | None:
        """Returns the first row, or None."""
        return next(iter(self.fetchall()), None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Returns all rows."""
        assert self._result is not None
        return self._connection.rows(self._result)


@functools.lru_cache(1000)
def _numbered(sql: str) -> tuple[bytes, Sequence[str], Sequence[PyFormat]]:
    """Returns a statement as the server knows it, with its parameters' names in their order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[1] is None:
            return "%"
        return f"${names.setdefault(found[1], len(names) + 1)}"

    text = re.sub(r"%\((\w+)\)s|%%", number, sql)
    return text.encode(), tuple(names), [PyFormat.TEXT] * len(names)
