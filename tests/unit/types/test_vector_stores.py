"""What requests for vector stores say: chunking strategies, filters, batches, ids."""

from typing import Any

import pytest
from assistants.v1 import vector_store_files_pb2, vector_stores_pb2

from service.errors import ApiError, Kind
from service.types import chunking_strategy, filters, vector_store_files, vector_stores
from service.types.json_value import from_python, struct_from_python
from service.types.vector_store_search import FIELDS
from storage.filters import Comparison, Compound
from tests.support.types.file_samples import STATIC

SIZE, OVERLAP = "max_chunk_size_tokens", "chunk_overlap_tokens"


def strategy(**sizes: Any) -> dict[str, Any]:
    return {"type": "static", "static": sizes}


@pytest.mark.parametrize(
    ("given", "param", "kind"),
    [
        ({}, "p.type", Kind.missing),
        ({"type": "other"}, "p.type", Kind.invalid_value),
        ({"type": "auto", "static": {}}, "p.static", Kind.unknown_parameter),
        ({"type": "static"}, "p.static", Kind.missing),
        (strategy(), f"p.static.{SIZE}", Kind.missing),
        (strategy(**{SIZE: 800}), f"p.static.{OVERLAP}", Kind.missing),
        (strategy(**{SIZE: 99, OVERLAP: 0}), f"p.static.{SIZE}", Kind.integer_below_min),
        (strategy(**{SIZE: 4097, OVERLAP: 0}), f"p.static.{SIZE}", Kind.integer_above_max),
        (strategy(**{SIZE: 100, OVERLAP: -1}), f"p.static.{OVERLAP}", Kind.integer_below_min),
        (strategy(**{SIZE: 101, OVERLAP: 51}), "p", Kind.invalid_value),
    ],
)
def test_both_forms_of_a_chunking_strategy_are_refused_alike(
    given: dict[str, Any], param: str, kind: Kind
) -> None:
    typed = vector_stores_pb2.ChunkingStrategy(**given)
    refusals = []
    for parse, form in (
        (chunking_strategy.parse, typed),
        (chunking_strategy.parse_json, struct_from_python(given)),
    ):
        with pytest.raises(ApiError) as refused:
            parse("p", form)  # type: ignore[arg-type]
        refusals.append((refused.value.kind, refused.value.param, refused.value.message))
    assert refusals[0] == refusals[1]
    assert refusals[0][:2] == (kind, param)


@pytest.mark.parametrize("given", [STATIC, strategy(**{SIZE: 100, OVERLAP: 50}), {"type": "auto"}])
def test_both_forms_of_a_chunking_strategy_are_read_alike(given: dict[str, Any]) -> None:
    typed = vector_stores_pb2.ChunkingStrategy(**given)
    found = chunking_strategy.parse("p", typed)
    assert found == chunking_strategy.parse_json("p", struct_from_python(given))
    assert found == (chunking_strategy.AUTO if given["type"] == "auto" else given)


@pytest.mark.parametrize(
    ("static", "param"),
    [({SIZE: "800", OVERLAP: 0}, SIZE), ({SIZE: 800.5, OVERLAP: 0}, SIZE), ({SIZE: True}, SIZE)],
)
def test_sizes_in_free_json_are_integers(static: dict[str, Any], param: str) -> None:
    given = struct_from_python(strategy(**static))
    with pytest.raises(ApiError) as refused:
        chunking_strategy.parse_json("p", given)
    assert (refused.value.kind, refused.value.param) == (Kind.invalid_type, f"p.static.{param}")


def filter_of(given: Any) -> Any:
    return filters.parse("filters", struct_from_python(given))


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "eq", "key": "k", "value": 1}
    for _ in range(levels - 1):
        found = {"type": "and", "filters": [found]}
    return found


def test_filters() -> None:
    given = {
        "type": "or",
        "filters": [
            {"type": "in", "key": "k", "value": ["a", 1, 0.5]},
            {"type": "and", "filters": [{"type": "ne", "key": "", "value": True}]},
        ],
    }
    inner = Compound("and", (Comparison("ne", "", True),))
    assert filter_of(given) == Compound("or", (Comparison("in", "k", ("a", 1, 0.5)), inner))
    filter_of(nested(16))


@pytest.mark.parametrize(
    ("given", "param", "kind"),
    [
        ({}, "filters.type", Kind.missing),
        ({"type": "like", "key": "k", "value": 1}, "filters.type", Kind.invalid_value),
        ({"type": "eq", "value": 1}, "filters.key", Kind.missing),
        ({"type": "eq", "key": 1, "value": 1}, "filters.key", Kind.invalid_type),
        ({"type": "eq", "key": "k"}, "filters.value", Kind.missing),
        ({"type": "eq", "key": "k", "value": [1]}, "filters.value", Kind.invalid_type),
        ({"type": "eq", "key": "k", "value": None}, "filters.value", Kind.invalid_type),
        ({"type": "in", "key": "k", "value": 1}, "filters.value", Kind.invalid_type),
        ({"type": "nin", "key": "k", "value": [[]]}, "filters.value[0]", Kind.invalid_type),
        ({"type": "eq", "key": "k", "value": 1, "a": 1}, "filters.a", Kind.unknown_parameter),
        ({"type": "and"}, "filters.filters", Kind.missing),
        ({"type": "and", "filters": {}}, "filters.filters", Kind.invalid_type),
        ({"type": "or", "filters": []}, "filters.filters", Kind.array_below_min),
        ({"type": "or", "filters": [1]}, "filters.filters[0]", Kind.invalid_type),
        (
            {"type": "or", "filters": [{"type": "eq", "key": "k", "value": 1}] * 129},
            "filters",
            Kind.invalid_value,
        ),
    ],
)
def test_filters_that_are_refused(given: Any, param: str, kind: Kind) -> None:
    with pytest.raises(ApiError) as refused:
        filter_of(given)
    assert (refused.value.param, refused.value.kind) == (param, kind)


def test_filters_nest_16_levels() -> None:
    with pytest.raises(ApiError, match="nested more than 16 levels"):
        filter_of({"type": "and", "filters": [nested(16)]})


@pytest.mark.parametrize(
    ("given", "expected"),
    [("q", ["q"]), (["a", "b"], ["a", "b"])],
)
def test_queries(given: Any, expected: list[str]) -> None:
    assert FIELDS[0].parse("query", from_python(given)) == expected


@pytest.mark.parametrize(
    ("given", "param", "kind"),
    [
        ("", "query", Kind.missing),
        ([], "query", Kind.array_below_min),
        (["q"] * 17, "query", Kind.array_above_max),
        (["q", ""], "query[1]", Kind.missing),
        (["q", 1], "query[1]", Kind.invalid_type),
        (None, "query", Kind.invalid_type),
    ],
)
def test_queries_that_are_refused(given: Any, param: str, kind: Kind) -> None:
    with pytest.raises(ApiError) as refused:
        FIELDS[0].parse("query", from_python(given))
    assert (refused.value.param, refused.value.kind) == (param, kind)


def batch(**fields: Any) -> list[Any]:
    request = vector_store_files_pb2.CreateVectorStoreFileBatchRequest(**fields)
    return vector_store_files.parse_batch(request)


def test_batches_have_each_file_once() -> None:
    common = {"attributes": struct_from_python({"a": 1})}
    found = batch(file_ids=["file-a", "file-b", "file-a"], **common)
    assert [(each.file_id, each.attributes) for each in found] == [
        ("file-a", {"a": 1}),
        ("file-b", {"a": 1}),
    ]
    own = [{"file_id": "file-a", "attributes": struct_from_python({"n": n})} for n in (1, 2)]
    [found] = batch(files=own, **common)
    assert found.attributes == {"n": 2}
    assert found.chunking_strategy == chunking_strategy.AUTO


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({}, "file_ids", Kind.missing),
        ({"file_ids": ["file-a"], "files": [{"file_id": "file-a"}]}, None, Kind.malformed),
        ({"file_ids": ["file-a"] * 2001}, "file_ids", Kind.array_above_max),
        ({"file_ids": ["vs_a"]}, "file_ids[0]", Kind.invalid_value),
        ({"files": [{}]}, "files[0].file_id", Kind.missing),
        (
            {"files": [{"file_id": "file-a", "chunking_strategy": {"type": "x"}}]},
            "files[0].chunking_strategy.type",
            Kind.invalid_value,
        ),
    ],
)
def test_batches_that_are_refused(fields: Any, param: str | None, kind: Kind) -> None:
    with pytest.raises(ApiError) as refused:
        batch(**fields)
    assert (refused.value.param, refused.value.kind) == (param, kind)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "Missing required parameter: 'vector_store_id'."),
        (
            "file-x",
            "Invalid 'vector_store_id': 'file-x'. Expected an ID that begins with 'vs_'.",
        ),
        (
            "x y",
            "Invalid 'vector_store_id': 'x y'. Expected an ID that contains letters, numbers, "
            "underscores, or dashes, but this value contained additional characters.",
        ),
    ],
)
def test_ids_of_another_kind(value: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        vector_stores.id_of("vector_store_id", value)
    assert refused.value.message == message
    assert vector_stores.id_of("vector_store_id", "vs_x-Y_1") == "vs_x-Y_1"
