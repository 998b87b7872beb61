"""The condition that a JSON object has certain pairs, in each database's own words."""

from collections.abc import Mapping
from json import dumps
from typing import Any

from sqlalchemy import Boolean, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _HasPairs(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


def has_pairs(column: Any, pairs: Mapping[str, str]) -> FunctionElement[bool]:
    """Returns the condition that `column`, an object whose values are strings, has all `pairs`."""
    return _HasPairs(column, bindparam(None, dumps(dict(pairs)), String))


@compiles(_HasPairs, "postgresql")
def _postgresql(element: _HasPairs, compiler: SQLCompiler, **options: Any) -> str:
    column, pairs = (compiler.process(each, **options) for each in element.clauses)
    # The operator that an index with jsonb_path_ops is for.
    return f"({column} @> CAST({pairs} AS JSONB))"


@compiles(_HasPairs, "sqlite")
def _sqlite(element: _HasPairs, compiler: SQLCompiler, **options: Any) -> str:
    column, pairs = (compiler.process(each, **options) for each in element.clauses)
    # Tables of pairs, not paths: a path cannot name every key, and compares escaped texts.
    return (
        f"(NOT EXISTS (SELECT 1 FROM json_each({pairs}) AS wanted WHERE NOT EXISTS "
        f"(SELECT 1 FROM json_each({column}) AS had "
        "WHERE had.key = wanted.key AND had.value = wanted.value)))"
    )
