"""Filters of attributes, as conditions of SQL.

A key that is not there matches `ne` and `nin` only. Values of other types are neither equal nor
ordered. Strings compare by code point; booleans have no order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from storage.statements import Statement

T = TypeVar("T")

Op = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
Scalar = str | int | float | bool

MAX_EXACT = 2**53
"""Integers beyond which both databases compare as floating numbers."""

SHAPES = 256
"""Shapes of filters whose statements are kept."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute, compared with a value, or with several for `in` and `nin`."""

    op: Op
    key: str
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """Filters of which all or any match."""

    op: Literal["and", "or"]
    filters: "tuple[Filter, ...]"


Filter = Comparison | Compound

Shape = tuple[Any, ...]

NEGATED = {"ne": "eq", "nin": "in"}


class Filtered(Generic[T]):
    """A statement with a filter in it: one for each shape, values being parameters."""

    def __init__(
        self, build: Callable[[sa.ColumnElement[bool]], sa.Executable], row: type[T] | None = None
    ) -> None:
        """`build` returns the statement around a condition. Rows are read as Statement does."""
        self._build = build
        self._row = row
        self._shaped = lru_cache(SHAPES)(self._statement)

    def of(
        self, filter: Filter | None, column: sa.ColumnElement[Any]
    ) -> tuple[Statement[T], dict[str, Any]]:
        """Returns the statement for a filter of the object in `column`, and its parameters."""
        params = dict(_params(filter)) if filter is not None else {}
        return self._shaped(_shape(filter), column), params

    def _statement(self, shape: Shape, column: sa.ColumnElement[Any]) -> Statement[T]:
        return Statement(self._build(_condition(shape, column, iter(range(10**6)))), self._row)


def _shape(filter: Filter | None) -> Shape:
    if filter is None:
        return ()
    if isinstance(filter, Compound):
        return (filter.op, tuple(map(_shape, filter.filters)))
    return (filter.op, _kind(filter.value))


def _kind(value: Scalar | tuple[Scalar, ...]) -> str:
    match value:
        case tuple():
            return "list"
        case bool():
            return "boolean"
        case str():
            return "string"
        case _:
            return "number"


def _params(filter: Filter) -> Iterator[tuple[str, Any]]:
    """Yields the parameters of a filter, numbered in its order."""
    for number, each in enumerate(_comparisons(filter)):
        yield f"key_{number}", each.key
        if isinstance(each.value, tuple):
            yield f"value_{number}", list(each.value)
        elif isinstance(each.value, int) and abs(each.value) > MAX_EXACT:
            yield f"value_{number}", float(each.value)
        else:
            yield f"value_{number}", each.value


def _comparisons(filter: Filter) -> Iterator[Comparison]:
    if isinstance(filter, Comparison):
        yield filter
        return
    for each in filter.filters:
        yield from _comparisons(each)


def _condition(
    shape: Shape, column: sa.ColumnElement[Any], numbers: Iterator[int]
) -> sa.ColumnElement[bool]:
    if not shape:
        return sa.true()
    op, rest = shape
    if op in ("and", "or"):
        parts = [_condition(each, column, numbers) for each in rest]
        return sa.and_(*parts) if op == "and" else sa.or_(*parts)
    number = next(numbers)
    positive = NEGATED.get(str(op), str(op))
    compared = _Compared(
        column,
        sa.bindparam(f"key_{number}", required=True, type_=sa.String()),
        sa.bindparam(f"value_{number}", required=True, type_=_TYPES[rest]),
    )
    compared.comparison, compared.kind = positive, rest
    # Without the key there is nothing to compare: neither true nor false.
    found = sa.func.coalesce(compared, sa.false())
    return found if positive == op else sa.not_(found)


_TYPES: dict[str, Any] = {
    "list": sa.JSON(),
    "boolean": sa.Boolean(),
    "string": sa.String(),
    "number": sa.Float(53),
}
_SIGNS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class _Compared(FunctionElement[bool]):
    """Whether the attribute of a key compares with a value, as it says."""

    type = sa.Boolean()
    inherit_cache = False
    comparison: str
    kind: str


@compiles(_Compared, "sqlite")
def _sqlite(element: _Compared, compiler: SQLCompiler, **options: Any) -> str:
    column, key, value = (compiler.process(each, **options) for each in element.clauses)
    # Tables of pairs, not paths: a path cannot name every key.
    had = f"SELECT 1 FROM json_each({column}) AS had WHERE had.key = {key}"
    match element.kind:
        case "list":
            return (
                f"EXISTS (SELECT 1 FROM json_each({column}) AS had, json_each({value}) AS wanted "
                f"WHERE had.key = {key} AND had.value = wanted.value "
                f"AND {_sqlite_kind('had')} = {_sqlite_kind('wanted')})"
            )
        case "boolean" if element.comparison == "eq":
            return f"EXISTS ({had} AND had.type = CASE WHEN {value} THEN 'true' ELSE 'false' END)"
        case "string":
            types = "('text')"
        case "number":
            types = "('integer', 'real')"
        case _:
            # The parameter is named, so that it can be given.
            return f"({key} IS NULL AND {value} IS NULL)"
    return (
        f"EXISTS ({had} AND had.type IN {types} AND had.value {_SIGNS[element.comparison]} {value})"
    )


def _sqlite_kind(table: str) -> str:
    return f"CASE {table}.type WHEN 'integer' THEN 'real' ELSE {table}.type END"


@compiles(_Compared, "postgresql")
def _postgresql(element: _Compared, compiler: SQLCompiler, **options: Any) -> str:
    column, key, value = (compiler.process(each, **options) for each in element.clauses)
    attribute = f"({column} -> {key})"
    match element.kind:
        case "list":
            elements = f"SELECT jsonb_array_elements(CAST({value} AS JSONB))"
            return f"({attribute} IN ({elements}))"
        case "boolean" if element.comparison == "eq":
            return f"({attribute} = to_jsonb(CAST({value} AS BOOLEAN)))"
        case "string":
            compared = f'({column} ->> {key}) COLLATE "C" {_SIGNS[element.comparison]} {value}'
        case "number":
            compared = f"CAST({attribute} AS DOUBLE PRECISION) {_SIGNS[element.comparison]} {value}"
        case _:
            return f"({key} IS NULL AND CAST({value} AS BOOLEAN) IS NULL)"
    # CASE, so that only what has the type is converted.
    return f"CASE WHEN jsonb_typeof({attribute}) = '{element.kind}' THEN {compared} ELSE false END"
