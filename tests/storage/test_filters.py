"""Filters: each row that should match does, on both databases, and no other."""

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import Storage, ids, tables
from storage.filters import Comparison, Compound, Filter, Filtered
from storage.rows import File, VectorStore, VectorStoreFile, table
from storage.transaction import Transaction

ENTRIES = table(tables.VectorStoreFile)
MATCHING: Filtered[Any] = Filtered(lambda where: sa.select(ENTRIES.c.file_id).where(where))

VALUES: list[Any] = [
    *("", "a", "b", "aa", "B", "ä", "😀", "\ufffd", "1", "true", "null", "x" * 512),
    *(0, 1, -1, 1.0, 1.5, -0.25, 1e300, 2**40, 2**63, True, False),
]
KEYS = ["k", 'a "b" $.c', "é", ""]


def matches(filter: Filter, attributes: dict[str, Any]) -> bool:
    """What a filter means."""
    if isinstance(filter, Compound):
        found = (matches(each, attributes) for each in filter.filters)
        return all(found) if filter.op == "and" else any(found)
    if filter.op in ("ne", "nin"):
        positive = Comparison("eq" if filter.op == "ne" else "in", filter.key, filter.value)
        return not matches(positive, attributes)
    if filter.key not in attributes:
        return False
    had, wanted = attributes[filter.key], filter.value
    if filter.op == "in":
        assert isinstance(wanted, tuple)
        return any(kind(had) is kind(each) and had == each for each in wanted)
    if kind(had) is not kind(wanted):
        return False
    if filter.op == "eq":
        return bool(had == wanted)
    if isinstance(had, bool):
        return False
    return bool(
        {
            "gt": had > wanted,
            "gte": had >= wanted,
            "lt": had < wanted,
            "lte": had <= wanted,
        }[filter.op]
    )


def kind(value: Any) -> type:
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float


async def insert(storage: Storage, attributes: list[dict[str, Any]]) -> None:
    """Puts a file with each of these into a vector store."""

    def work(tx: Transaction) -> None:
        position = ids.new_position()
        tx.insert(
            VectorStore(
                id="vs_1",
                project_id="proj_1",
                position=position,
                created_at=0,
                last_active_at=0,
                metadata_={},
            )
        )
        for number, each in enumerate(attributes):
            common: dict[str, Any] = {
                "project_id": "proj_1",
                "created_at": 0,
                "position": ids.new_position(),
            }
            file = File(id=f"file-{number}", filename="a", purpose="assistants", bytes=0, **common)
            entry = VectorStoreFile(
                id=f"e{number}",
                vector_store_id="vs_1",
                file_id=file.id,
                status="completed",
                queued_at=0.0,
                attributes=each,
                chunking_strategy={},
                **common,
            )
            tx.insert(file)
            tx.insert(entry)

    await storage.database.write(work, "proj_1")


async def check(storage: Storage, filter: Filter, attributes: list[dict[str, Any]]) -> None:
    """Compares what is found with what should be."""
    statement, params = MATCHING.of(filter, ENTRIES.c.attributes)
    rows = await storage.database.read(lambda tx: tx.all(statement, **params))
    expected = {f"file-{n}" for n, each in enumerate(attributes) if matches(filter, each)}
    assert {row[0] for row in rows} == expected, filter


ATTRIBUTES: list[dict[str, Any]] = [
    {},
    *({"k": value} for value in VALUES),
    *({key: "a"} for key in KEYS[1:]),
    {"k": "a", "é": 1},
]


@pytest.mark.parametrize("op", ["eq", "ne", "gt", "gte", "lt", "lte"])
async def test_every_comparison_of_every_pair(storage: Storage, op: Any) -> None:
    await insert(storage, ATTRIBUTES)
    for value in VALUES:
        await check(storage, Comparison(op, "k", value), ATTRIBUTES)
    for key in KEYS:
        await check(storage, Comparison(op, key, "a"), ATTRIBUTES)


@pytest.mark.parametrize("op", ["in", "nin"])
async def test_lists(storage: Storage, op: Any) -> None:
    await insert(storage, ATTRIBUTES)
    for value in [(), ("a", 1), (1.0, "true"), tuple(VALUES), ("a",) * 2000]:
        await check(storage, Comparison(op, "k", value), ATTRIBUTES)


COMPARISONS = st.builds(
    Comparison,
    st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]),
    st.sampled_from(["k", "é", "absent"]),
    st.sampled_from(["a", "b", 1, 1.5, True]),
) | st.builds(
    Comparison,
    st.sampled_from(["in", "nin"]),
    st.sampled_from(["k", "é"]),
    st.lists(st.sampled_from(["a", "b", 1, 2.5]), max_size=3).map(tuple),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        Compound, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


async def test_compounds(storage: Storage) -> None:
    await insert(storage, ATTRIBUTES)
    found: list[Filter] = []

    @settings(max_examples=40, database=None, suppress_health_check=list(HealthCheck))
    @given(FILTERS)
    def collect(filter: Filter) -> None:
        found.append(filter)

    collect()
    for filter in found:
        await check(storage, filter, ATTRIBUTES)


async def test_sixteen_levels(storage: Storage) -> None:
    filter: Filter = Comparison("eq", "k", "a")
    for level in range(16):
        filter = Compound("and" if level % 2 else "or", (filter, Comparison("eq", "k", "b")))
    await insert(storage, ATTRIBUTES)
    await check(storage, filter, ATTRIBUTES)
