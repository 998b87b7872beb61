"""What a repository's functions work on: the statements of one transaction."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from storage import statements
from storage.clock import NOW
from storage.statements import PROJECT, Compiled, Statement

T = TypeVar("T")


class Cursor(Protocol):
    """What both drivers' cursors do."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed."""

    def execute(self, sql: Any, params: Any = ..., /) -> Any:
        """Executes one statement."""

    def executemany(self, sql: Any, params: Any, /) -> Any:
        """Executes one statement for each set of parameters."""

    def fetchone(self) -> Any:
        """Returns the next row, or None."""

    def fetchall(self) -> Any:
        """Returns all rows that are left."""


class Transaction:
    """Statements of one transaction, each done when its method returns.

    It is of one project, or, for the run engine and the reconciler, of all: then a statement that
    takes a project must be given it. One of a project gives no row of another's, and changes none,
    whatever a statement leaves out. Whatever the driver raises goes through to the database, which
    rolls back and translates it.
    """

    __slots__ = ("_cursor", "_database", "_project", "brief")

    def __init__(
        self, cursor: Cursor, database: str, project: str | None, *, brief: bool = False
    ) -> None:
        """Executes on `cursor`, in the dialect of `database`.

        `brief`: what is long is refused, and read elsewhere.
        """
        self.brief = brief
        self._cursor = cursor
        self._database = database
        self._project = project

    @property
    def project(self) -> str:
        """The project that it is of. LookupError if it is of all."""
        if self._project is None:
            raise LookupError("a transaction of all projects has none of its own")
        return self._project

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database

    def one(self, statement: Statement[T], **params: Any) -> T | None:
        """Returns the first row, or None where there is none."""
        compiled = self._execute(statement, params)
        row = self._cursor.fetchone()
        found = [] if row is None else self._own(compiled.read([row]))
        return found[0] if found else None

    def all(self, statement: Statement[T], **params: Any) -> list[T]:
        """Returns all rows."""
        compiled = self._execute(statement, params)
        return self._own(compiled.read(self._cursor.fetchall()))

    def value(self, statement: Statement[Any], **params: Any) -> Any:
        """Returns the first value of the first row, or None where there is none."""
        row = self.one(statement, **params)
        return None if row is None else row[0]

    def run(self, statement: Statement[Any], **params: Any) -> int:
        """Executes a statement that returns no rows; returns how many it has changed."""
        self._execute(statement, params)
        return self._cursor.rowcount

    def many(self, statement: Statement[Any], each: Iterable[Mapping[str, Any]]) -> None:
        """Executes a statement that returns no rows once for each set of parameters."""
        compiled = statement.compiled(self._database)
        given = [self._params(compiled, dict(params)) for params in each]
        if given:
            self._cursor.executemany(compiled.sql, given)

    def insert(self, *rows: Any) -> None:
        """Inserts rows, all of one class, in their order."""
        if len(rows) == 1:
            self.run(statements.insert(type(rows[0])), **statements.values(rows[0]))
        elif rows:
            self.many(statements.insert(type(rows[0])), map(statements.values, rows))

    def update(self, row: T, **changes: Any) -> T:
        """Sets attributes of a row, by its id, and returns it as it is then."""
        if not changes:
            return row
        kept: Any = row
        changed = self.change(type(row), kept.id, **changes)
        assert changed is not None, f"{kept.id} has gone while its thread was locked"
        return changed

    def change(self, row: type[T], id: str, **changes: Any) -> T | None:
        """Sets attributes of the row of a class that has this id; returns it, if there is one."""
        in_project = self._project is not None
        statement = statements.update(row, tuple(sorted(changes)), in_project)
        return self.one(statement, of_id=id, **changes)

    def now(self) -> float:
        """Returns the database's time in unix seconds, which goes on within a transaction."""
        return float(self.value(NOW))

    def _own(self, rows: list[T]) -> list[T]:
        """Returns what is the project's of some rows; tuples are what their statement made."""
        project = self._project
        if project is None:
            return rows
        return [row for row in rows if getattr(row, PROJECT, project) == project]

    def _execute(self, statement: Statement[T], params: dict[str, Any]) -> Compiled[T]:
        compiled = statement.compiled(self._database)
        self._cursor.execute(compiled.sql, self._params(compiled, params))
        return compiled

    def _params(self, compiled: Compiled[Any], params: dict[str, Any]) -> dict[str, Any]:
        for name in compiled.documents:
            if (value := params.get(name)) is not None:
                params[name] = statements.document(value)
        if compiled.in_project and PROJECT not in params:
            params[PROJECT] = self.project
        if compiled.fixed:
            params = {**compiled.fixed, **params}
        return params


def perform(work: Callable[[Transaction], T], tx: Transaction) -> T:
    """Returns what `work` returns. Raises what it raises, but for StopIteration."""
    try:
        return work(tx)
    except StopIteration as error:
        # No future takes one: whoever waits would never be answered.
        raise RuntimeError("a transaction raised StopIteration") from error
