"""Conditions that Core cannot say, in each database's own words."""

from typing import Any

from sqlalchemy import JSON, Boolean, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _Condition(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """Returns it as it is: compared with a truth, as others are, it would use no index."""
        return self


class _HasPairs(_Condition):
    inherit_cache = True


def has_pairs(column: Any, pairs: str) -> FunctionElement[bool]:
    """Returns the condition that `column`, an object whose values are strings, has certain pairs.

    `pairs` names the parameter that is the object of them, as JSON text.
    """
    return _HasPairs(column, bindparam(pairs, required=True, type_=String()))


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


class _InList(_Condition):
    inherit_cache = True


def in_list(column: Any, ids: str) -> FunctionElement[bool]:
    """Returns the condition that `column` is one of the texts in a list.

    `ids` names the parameter that is the list: one parameter, however long it is.
    """
    return _InList(column, bindparam(ids, required=True, type_=JSON()))


@compiles(_InList, "postgresql")
def _in_list_postgresql(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, ids = (compiler.process(each, **options) for each in element.clauses)
    # An array, which is looked up in the index of the column whatever there is to look through.
    return f"({column} = ANY (ARRAY(SELECT json_array_elements_text({ids}))))"


@compiles(_InList, "sqlite")
def _in_list_sqlite(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, ids = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({ids})))"
