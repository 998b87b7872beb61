"""Searches in vector stores: what requests for them say, and how their results are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from assistants.json import json_pb2
from assistants.v1 import vector_stores_pb2

from service.files.results import Result
from service.types import attributes, checks, filters, json_value
from service.types.json_value import Json
from service.types.requests import Field

MAX_QUERIES = 16
MAX_RESULTS = 50
DEFAULT_RESULTS = 10
RANKERS = ("none", "auto", "default-2024-11-15")
"""All rank alike."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a search in a vector store has found, with the queries that were in use."""

    id: str
    """The vector store's."""
    queries: Sequence[str]
    data: Sequence[Result]


def _queries(param: str, given: json_pb2.Value) -> list[str]:
    value = json_value.to_python(given, param)
    if isinstance(value, str):
        return [checks.required_text(param, value, checks.MAX_TEXT)]
    if not isinstance(value, list):
        checks.wrong_type(param, "one of a string or an array", value)
    checks.array(param, len(value), MAX_QUERIES, minimum=1)
    texts = [checks.json_text(f"{param}[{at}]", each) for at, each in enumerate(value)]
    return [
        checks.required_text(f"{param}[{at}]", each, checks.MAX_TEXT)
        for at, each in enumerate(texts)
    ]


def _threshold(
    param: str, given: vector_stores_pb2.SearchVectorStoreRequest.RankingOptions
) -> float:
    checks.choice(f"{param}.ranker", given.ranker or "auto", RANKERS)
    return checks.decimal(f"{param}.score_threshold", given.score_threshold, 0, 1)


FIELDS: tuple[Field, ...] = (
    Field("query", _queries, required=True, attribute="queries"),
    Field("rewrite_query", checks.boolean, default=False, attribute="rewrite"),
    Field(
        "max_num_results",
        partial(checks.integer, minimum=1, maximum=MAX_RESULTS),
        default=DEFAULT_RESULTS,
        attribute="limit",
    ),
    Field("filters", filters.parse, attribute="filter"),
    Field("ranking_options", _threshold, default=0.0, attribute="threshold"),
)
"""What a search may say, in the order of checking."""


def to_json(results: Results) -> Json:
    """Returns a VectorStoreSearchResultsPage."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": [*results.queries],
        "data": [_result(each) for each in results.data],
        "has_more": False,
        "next_page": None,
    }


def _result(result: Result) -> Json:
    return {
        "file_id": result.file_id,
        "filename": result.filename,
        "score": result.score,
        "attributes": attributes.to_json(result.attributes),
        "content": [{"type": "text", "text": result.text}],
    }


def to_fields(value: Json) -> dict[str, Any]:
    """Returns the fields of the same in protobuf."""
    data = [
        each | {"attributes": json_value.struct_from_python(each["attributes"])}
        for each in value["data"]
    ]
    return {"search_query": value["search_query"], "data": data, "has_more": value["has_more"]}
