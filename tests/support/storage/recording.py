"""What the database is asked: the statements that transactions execute, and their plans."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from storage import Storage
from storage.database import Database
from storage.statements import PROJECT as PROJECT_ID
from storage.statements import Compiled, Statement
from storage.transaction import Transaction
from tests.support.storage.rows import PROJECT


@dataclass(slots=True)
class Executed:
    """A transaction that has ended."""

    commits: bool
    """Whether it was there to write, and did not fail."""
    statements: list[tuple[Statement[Any], Mapping[str, Any]]] = field(default_factory=list)
    """What it executed, with the parameters that it gave; of many at once, without them."""


@contextmanager
def transactions() -> Iterator[list[Executed]]:
    """Gives the list of the transactions that end meanwhile."""
    ended: list[Executed] = []
    current = threading.local()
    """Has what this thread executes; nothing for what began before."""
    patch = pytest.MonkeyPatch()

    def recorded(name: str, commits: bool) -> None:
        original = getattr(Database, name)

        async def method(
            self: Database, work: Callable[[Transaction], Any], *args: Any, **kwargs: Any
        ) -> Any:
            own = Executed(False)

            def watched(tx: Transaction) -> Any:
                # On SQLite, what is busy is left to a thread, and begins once more.
                own.statements.clear()
                current.statements = own.statements
                try:
                    return work(tx)
                finally:
                    del current.statements

            try:
                result = await original(self, watched, *args, **kwargs)
                own.commits = commits
                return result
            finally:
                ended.append(own)

        patch.setattr(Database, name, method)

    for name, commits in {"read": False, "get": False, "write": True, "renew": True}.items():
        recorded(name, commits)
    one, many = Transaction._execute, Transaction.many

    def execute(
        self: Transaction, statement: Statement[Any], params: dict[str, Any]
    ) -> Compiled[Any]:
        getattr(current, "statements", []).append((statement, dict(params)))
        return one(self, statement, params)

    def execute_many(
        self: Transaction, statement: Statement[Any], each: Iterable[Mapping[str, Any]]
    ) -> None:
        getattr(current, "statements", []).append((statement, {}))
        many(self, statement, each)

    patch.setattr(Transaction, "_execute", execute)
    patch.setattr(Transaction, "many", execute_many)
    try:
        yield ended
    finally:
        patch.undo()


@dataclass(frozen=True, slots=True)
class Plan:
    """How the database executes a statement."""

    lines: list[str]
    """In its own words."""
    indexes: list[str]
    """What it searches."""
    scans: list[str]
    """What it reads from the first row or entry to the last: tables, indexes."""
    sorts: bool
    """Whether it sorts what it has found."""


def plan(
    storage: Storage, statement: Statement[Any], given: Mapping[str, Any] | None = None
) -> Plan:
    """Returns the plan of a statement, whatever its parameters are, or for those that are given.

    Of few rows PostgreSQL would read all, and sort them: a setting forbids that. For
    parameters that are given it may sort what it has found.
    """
    with storage.database.connect() as connection:
        if connection.dialect.name == "sqlite":
            compiled = statement.compiled("sqlite")
            nothing = dict.fromkeys(compiled.given | compiled.fixed.keys())
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.sql}", nothing)
            return _of_sqlite([row.detail for row in rows])
        for setting in ("enable_seqscan", *(["enable_sort"] if given is None else [])):
            connection.execute(text(f"SET {setting} = off"))
        compiled = statement.compiled("postgresql")
        driver: Any = connection.connection.driver_connection
        if given is None:
            cursor = driver.execute(
                f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {_numbered(compiled.sql)}".encode()
            )
        else:
            values = {**compiled.fixed, PROJECT_ID: PROJECT, **given}
            cursor = driver.execute(f"EXPLAIN (FORMAT JSON) {compiled.sql}".encode(), values)
        [(found,)] = cursor.fetchall()
        return _of_postgresql(found)


def _of_sqlite(lines: list[str]) -> Plan:
    # A list that is a parameter is read whole, of course, and so are the one row of a subquery, the
    # page of which one text is made, and what is counted up to a limit.
    passing = re.compile(
        r"SCAN (json_each|wanted|had|\d+ CONSTANT ROWS?|CONSTANT ROW|value|page|unended)\b"
    )
    scans = [line for line in lines if line.startswith("SCAN") and not passing.match(line)]
    searched = re.compile(r"SEARCH .* INDEX (\w+)")
    indexes = [found[1] for line in lines if (found := searched.match(line))]
    return Plan(lines, indexes, scans, any("TEMP B-TREE" in line for line in lines))


def _of_postgresql(found: list[dict[str, Any]]) -> Plan:
    nodes = list(_nodes(found[0]["Plan"]))
    scans = [
        f"{node['Node Type']} {node.get('Index Name') or node['Relation Name']}"
        for node in nodes
        if node["Node Type"] == "Seq Scan"
        or ("Index" in node["Node Type"] and "Index Cond" not in node)
    ]
    indexes = [node["Index Name"] for node in nodes if "Index Cond" in node]
    sorts = any("Sort" in node["Node Type"] for node in nodes)
    return Plan(json.dumps(found[0]["Plan"], indent=1).splitlines(), indexes, scans, sorts)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _numbered(sql: str) -> str:
    """Returns a statement with the parameters as the server knows them: by numbers."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return re.sub(r"%\((\w+)\)s", number, sql).replace("%%", "%")
