"""What the database is asked: the statements that transactions execute, and their plans."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from storage import Storage
from storage.statements import Compiled, Statement
from storage.transaction import Transaction

Executed = list[tuple[str, dict[str, Any]]]


@contextmanager
def statements() -> Iterator[Executed]:
    """Gives the list of the statements that are executed meanwhile, with their parameters."""
    executed: Executed = []
    original = Transaction._execute

    def execute(self: Transaction, statement: Statement[Any], params: Any) -> Compiled[Any]:
        compiled = statement.compiled(self._database)
        executed.append((compiled.sql, self._params(compiled, dict(params))))
        return original(self, statement, params)

    Transaction._execute = execute  # type: ignore[method-assign]
    try:
        yield executed
    finally:
        Transaction._execute = original  # type: ignore[method-assign]


def plan(
    storage: Storage, sql: str, params: dict[str, Any], *, may_sort: bool = False
) -> list[str]:
    """Returns the lines of the plan by which the database executes a statement.

    Of few rows PostgreSQL would read all, and sort them: it is told not to.
    """
    with storage.database.connect() as connection:
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", params)
            return [row.detail for row in rows]
        for setting in ("enable_seqscan", *([] if may_sort else ["enable_sort"])):
            connection.execute(text(f"SET {setting} = off"))
        return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {sql}", params)]
