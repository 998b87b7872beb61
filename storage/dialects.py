"""What Core cannot say, in each database's own words."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import JSON, Boolean, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class InWords(FunctionElement[Any]):
    """An expression whose SQL each database has in `words`, with {} for each of its clauses."""

    inherit_cache = True
    words: ClassVar[Mapping[str, str]]


@compiles(InWords)
def _words(element: InWords, compiler: SQLCompiler, **options: Any) -> str:
    clauses = (compiler.process(each, **options) for each in element.clauses)
    return element.words[compiler.dialect.name].format(*clauses)


class _Condition(InWords):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """Returns it as it is: compared with a truth, as others are, it would use no index."""
        return self


class _HasPairs(_Condition):
    inherit_cache = True
    words: ClassVar[Mapping[str, str]] = {
        # The operator that an index with jsonb_path_ops is for.
        "postgresql": "({0} @> CAST({1} AS JSONB))",
        # Tables of pairs, not paths: a path cannot name every key, and compares escaped texts.
        "sqlite": (
            "(NOT EXISTS (SELECT 1 FROM json_each({1}) AS wanted WHERE NOT EXISTS "
            "(SELECT 1 FROM json_each({0}) AS had "
            "WHERE had.key = wanted.key AND had.value = wanted.value)))"
        ),
    }


def has_pairs(column: Any, pairs: str) -> FunctionElement[bool]:
    """Returns the condition that `column`, an object whose values are strings, has certain pairs.

    `pairs` names the parameter that is the object of them, as JSON text.
    """
    return _HasPairs(column, bindparam(pairs, required=True, type_=String()))


class _InList(_Condition):
    inherit_cache = True
    words: ClassVar[Mapping[str, str]] = {
        # An array, which is looked up in the index of the column whatever there is to look through.
        "postgresql": "({0} = ANY (ARRAY(SELECT json_array_elements_text({1}))))",
        "sqlite": "({0} IN (SELECT value FROM json_each({1})))",
    }


def in_list(column: Any, ids: str) -> FunctionElement[bool]:
    """Returns the condition that `column` is one of the texts in a list.

    `ids` names the parameter that is the list: one parameter, however long it is.
    """
    return _InList(column, bindparam(ids, required=True, type_=JSON()))


class _InNumbers(_Condition):
    inherit_cache = True
    words: ClassVar[Mapping[str, str]] = {
        "postgresql": "({0} = ANY (ARRAY(SELECT CAST(json_array_elements_text({1}) AS BIGINT))))",
        "sqlite": _InList.words["sqlite"],
    }


def in_numbers(column: Any, numbers: str) -> FunctionElement[bool]:
    """Returns the condition that `column` is one of the integers in a list; see `in_list`."""
    return _InNumbers(column, bindparam(numbers, required=True, type_=JSON()))
