"""Statements: SQLAlchemy Core over the tables, built and compiled once for each database.

A statement is a module's constant. What a request decides is a parameter; shapes that a request
decides are built by functions that are cached.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlmodel import SQLModel

from storage import rows, tables
from storage.rows import table

T = TypeVar("T")

DIALECTS: Mapping[str, sa.Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="named"),
    "postgresql": psycopg.dialect(),  # type: ignore[no-untyped-call]
}
PROJECT = "project_id"
"""The parameter that a transaction fills in by itself."""


@dataclass(frozen=True, slots=True)
class Compiled(Generic[T]):
    """A statement for one database: its text, its fixed parameters, and how rows are read."""

    sql: str
    fixed: Mapping[str, Any]
    documents: tuple[str, ...]
    """The parameters that are JSON."""
    given: frozenset[str]
    """The parameters that an execution gives."""
    in_project: bool
    """Whether it takes the transaction's project."""
    read: Callable[[Sequence[Sequence[Any]]], list[T]]
    """Makes of the driver's rows those that are asked for."""


class Statement(Generic[T]):
    """A Core statement. Its rows are read as `row`, or as tuples without it."""

    def __init__(self, core: sa.Executable, row: type[T] | None = None) -> None:
        """Holds the statement, which is compiled when a database first executes it."""
        self._core: Any = core
        self._row = row
        self._compiled: dict[str, Compiled[T]] = {}

    def compiled(self, database: str) -> Compiled[T]:
        """Returns it for `sqlite` or `postgresql`."""
        found = self._compiled.get(database)
        if found is None:
            found = self._compiled[database] = self._compile(database)
        return found

    def parameters(self) -> frozenset[str]:
        """Returns the names of the parameters that an execution gives, the project's included."""
        return self.compiled("sqlite").given

    def _compile(self, database: str) -> Compiled[T]:
        return compile(self._core, database, _reader(self._core, self._row, database))


def compile(
    core: Any, database: str, read: Callable[[Sequence[Sequence[Any]]], list[T]]
) -> Compiled[T]:
    """Returns a statement for a database, with what reads its rows."""
    compiled = core.compile(dialect=DIALECTS[database])
    binds = {name: bind for bind, name in compiled.bind_names.items()}
    return Compiled(
        sql=str(compiled),
        fixed={name: _fixed(bind) for name, bind in binds.items() if not bind.required},
        documents=tuple(name for name, bind in binds.items() if isinstance(bind.type, sa.JSON)),
        given=frozenset(name for name, bind in binds.items() if bind.required),
        in_project=PROJECT in binds,
        read=read,
    )


def _fixed(bind: sa.BindParameter[Any]) -> Any:
    value = bind.effective_value
    if isinstance(bind.type, sa.JSON) and value is not None:
        return document(value)
    return value


def document(value: Any) -> str:
    """Returns a value as JSON text."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # A model server may give integers of more than 64 bits, and nest deeper than orjson goes.
        return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _reader(
    core: Any, row: type[T] | None, database: str
) -> Callable[[Sequence[Sequence[Any]]], list[T]]:
    """Returns what makes of a driver's rows those that are asked for."""
    columns = list(getattr(core, "exported_columns", None) or ())
    make: Any = tuple if row is None else rows.maker(row, [column.name for column in columns])
    # Both drivers give documents as texts, and SQLite's knows no truths.
    loaded = _places(columns, sa.JSON)
    truths = _places(columns, sa.Boolean) if database == "sqlite" else []
    if not loaded and not truths:
        return lambda given: list(map(make, given))

    def load(given: Sequence[Any]) -> list[Any]:
        values = list(given)
        for place in loaded:
            # SQLite keeps a document that is a number as the number.
            if isinstance(text := values[place], str):
                values[place] = orjson.loads(text)
        for place in truths:
            if (number := values[place]) is not None:
                values[place] = bool(number)
        return values

    return lambda given: [make(load(each)) for each in given]


def _places(columns: Iterable[Any], kind: type[Any]) -> list[int]:
    return [place for place, column in enumerate(columns) if isinstance(column.type, kind)]


def insert(row: type[Any]) -> Statement[Any]:
    """Returns the statement that inserts a row of this class; see `values`."""
    found = _INSERTS.get(row.__name__)
    if found is None:
        found = _INSERTS[row.__name__] = Statement(sa.insert(table(_model(row))))
    return found


_INSERTS: dict[str, Statement[Any]] = {}


def values(row: Any) -> dict[str, Any]:
    """Returns the parameters with which `insert` inserts a row."""
    return {column: getattr(row, name) for column, name in rows.columns(type(row))}


def _model(row: Any) -> type[SQLModel]:
    found: type[SQLModel] = getattr(tables, row.__name__)
    return found


def update(row: type[T], names: tuple[str, ...]) -> Statement[T]:
    """Returns the statement that sets these attributes of the row whose id is `of_id`.

    Parameters are named as the attributes are. The row comes back as it is then.
    """
    found = _UPDATES.get((row.__name__, names))
    if found is None:
        model = _model(row)
        by_attribute = {name: column for column, name in rows.columns(row)}
        columns = table(model).c
        assigned = {by_attribute[name]: param(name, columns[by_attribute[name]]) for name in names}
        changed = sa.update(table(model)).where(columns.id == param("of_id")).values(assigned)
        found = Statement(changed.returning(table(model)), row)
        _UPDATES[row.__name__, names] = found
    return found


_UPDATES: dict[tuple[str, tuple[str, ...]], Statement[Any]] = {}


def param(name: str, like: Any = None) -> sa.BindParameter[Any]:
    """Returns a parameter that each execution gives; of the type of a column, if one is named."""
    return sa.bindparam(name, required=True, type_=None if like is None else like.type)


def project() -> sa.BindParameter[Any]:
    """Returns the parameter that is the transaction's project."""
    return sa.bindparam(PROJECT, required=True, type_=sa.String())


def one_of(column: Any, allowed: Iterable[str]) -> sa.ColumnElement[bool]:
    """Returns the condition that a column has one of these fixed values."""
    return cast(
        "sa.ColumnElement[bool]", column.in_([sa.literal(str(value)) for value in sorted(allowed)])
    )
