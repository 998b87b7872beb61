"""Every index of vectors: what the port promises."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import numpy as np
import pytest

from service.files.embeddings import Matrix, normalized
from service.files.vectors import Scores, VectorIndex
from service.files.vectors.packed import BLOCK, PackedIndex, pack
from service.files.vectors.pgvector import PgvectorIndex
from storage.database import Database
from storage.filters import Comparison
from storage.scope import Scope
from storage.segments import number
from tests.support.files.vectors import DIMENSIONS, add, put, vectors
from tests.support.files.world import PROJECT, World

SMALL = 0.01
"""How far a cosine may be off."""


class Tended(PgvectorIndex):
    """Has an index of neighbours for each vector store, be it ever so small."""

    async def nearest(
        self, project: str, scope: Scope, queries: Matrix, limit: int
    ) -> list[Scores]:
        await self.tend(size=1)
        return await super().nearest(project, scope, queries, limit)


INDEXES: dict[str, tuple[str, Callable[[Database], VectorIndex]]] = {
    "packed, on SQLite": ("sqlite", PackedIndex),
    "packed, keeping nothing, on SQLite": ("sqlite", partial(PackedIndex, keep_bytes=0)),
    "packed, on PostgreSQL": ("postgresql", PackedIndex),
    "packed, keeping nothing, on PostgreSQL": ("postgresql", partial(PackedIndex, keep_bytes=0)),
    "pgvector": ("postgresql", PgvectorIndex),
    "pgvector, with neighbours": ("postgresql", Tended),
}


@pytest.fixture(params=INDEXES)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    kind, made = INDEXES[request.param]
    database = Database(request.getfixturevalue(f"{kind}_url"))
    index = made(database)
    await index.open()
    yield World(database, index)
    await database.close()


async def nearest(world: World, queries: Matrix, limit: int, *stores: str) -> list[Scores]:
    return await world.vectors.nearest(PROJECT, Scope(stores or ("vs_1",)), queries, limit)


async def test_the_nearest_are_found_with_their_cosines(world: World) -> None:
    await world.store("vs_1")
    rows = vectors(BLOCK + 600)
    segment = await put(world, "vs_1", "file-1", rows)
    queries = normalized(rows[[3, BLOCK + 500]] + 0.1 * vectors(2, seed=2))
    found = await nearest(world, queries, 10)
    cosines = queries @ rows.T
    for each, exact in zip(found, cosines, strict=True):
        assert len(each) == 10
        assert list(each.values()) == sorted(each.values(), reverse=True)
        places = [id - number(segment) for id in each]
        assert np.allclose(list(each.values()), exact[places], atol=SMALL)
        assert places[0] == int(np.argmax(exact))
        least = np.sort(exact)[-10]
        assert min(exact[places]) >= least - SMALL


async def test_fewer_than_asked_for(world: World) -> None:
    await world.store("vs_1")
    assert await nearest(world, vectors(2), 5) == [{}, {}]
    await put(world, "vs_1", "file-1", vectors(3))
    assert [len(each) for each in await nearest(world, vectors(2), 5)] == [3, 3]


async def test_only_what_is_in_scope(world: World) -> None:
    for store in ("vs_1", "vs_2", "vs_3"):
        await world.store(store)
    one = await put(world, "vs_1", "file-1", vectors(5, 1), kind="a")
    two = await put(world, "vs_1", "file-2", vectors(5, 2), kind="b")
    three = await put(world, "vs_2", "file-3", vectors(5, 3), kind="b")
    await put(world, "vs_3", "file-4", vectors(5, 4), kind="b")
    await world.entry("vs_1", "file-5")

    async def segments(scope: Scope) -> set[int]:
        (found,) = await world.vectors.nearest(PROJECT, scope, vectors(1), 100)
        assert len(found) == 5 * len({id >> 20 for id in found})
        return {id >> 20 for id in found}

    assert await segments(Scope(("vs_1",))) == {one, two}
    assert await segments(Scope(("vs_1", "vs_2"))) == {one, two, three}
    assert await segments(Scope(("vs_1", "vs_2"), Comparison("eq", "kind", "b"))) == {two, three}
    assert await segments(Scope(("vs_1",), Comparison("eq", "kind", "c"))) == set()
    assert await segments(Scope(())) == set()
    assert await segments(Scope(("vs_4",))) == set()


async def test_a_segment_is_visible_when_it_is_whole_and_goes_with_its_entry(world: World) -> None:
    await world.store("vs_1")
    entry = await world.entry("vs_1", "file-1")
    segment = await world.segments.begin(PROJECT, "vs_1", "e")
    await add(world, segment, 0, vectors(3))
    assert await nearest(world, vectors(1), 5) == [{}]
    await add(world, segment, 3, vectors(2))
    await world.point(entry, segment)
    assert [len(each) for each in await nearest(world, vectors(1), 9)] == [5]
    # Indexed again: the old one goes in the instant in which the new one comes.
    again = await world.segments.begin(PROJECT, "vs_1", "e")
    await add(world, again, 0, vectors(4))
    await world.point(entry, again)
    (found,) = await nearest(world, vectors(1), 9)
    assert {id >> 20 for id in found} == {again}
    assert len(found) == 4
    await world.delete("file-1")
    assert await nearest(world, vectors(1), 5) == [{}]


async def test_scores_of_certain_chunks(world: World) -> None:
    await world.store("vs_1")
    rows = vectors(20)
    segment = await put(world, "vs_1", "file-1", rows, batch=7)
    other = await put(world, "vs_1", "file-2", vectors(5, seed=9))
    queries = vectors(2, seed=5)
    wanted = [number(segment, place) for place in (0, 6, 7, 19)]
    asked = [*wanted, number(segment, 77), number(other + 1)]
    found = await world.vectors.scores(PROJECT, queries, asked)
    for each, exact in zip(found, queries @ rows.T, strict=True):
        assert sorted(each) == wanted
        assert np.allclose([each[id] for id in wanted], exact[[0, 6, 7, 19]], atol=SMALL)
    assert await world.vectors.scores(PROJECT, queries, []) == [{}, {}]


async def test_removing(world: World) -> None:
    await world.store("vs_1")
    one = await put(world, "vs_1", "file-1", vectors(450), batch=64)
    two = await put(world, "vs_1", "file-2", vectors(3))
    await world.delete("file-1")
    assert await world.sweep() == 3
    (found,) = await world.vectors.scores(
        PROJECT, vectors(1), [*(number(one, place) for place in range(450)), number(two)]
    )
    left = {id >> 20 for id in found}
    # What is kept in memory may still be known; it is in no scope.
    assert two in left
    assert {id >> 20 for id in (await nearest(world, vectors(1), 999))[0]} == {two}


async def test_vectors_without_a_direction_and_of_other_lengths(world: World) -> None:
    await world.store("vs_1")
    one = await put(world, "vs_1", "file-1", np.zeros((3, DIMENSIONS), dtype=np.float32))
    other = await put(world, "vs_1", "file-2", vectors(3, dimensions=64))
    (found,) = await nearest(world, vectors(1), 9)
    assert list(found.values()) == [0, 0, 0]
    (found,) = await nearest(world, vectors(1, dimensions=64), 9)
    assert len(found) == 3
    chunks = [number(segment, place) for segment in (one, other) for place in (0, 2, 3)]
    (scores,) = await world.vectors.scores(PROJECT, vectors(1, dimensions=64), chunks)
    assert scores.keys() == {number(other), number(other, 2)}


async def test_of_equals_the_first_are_nearest(database_url: str) -> None:
    database = Database(database_url)
    world = World(database, PackedIndex(database))
    await world.store("vs_1")
    same = np.repeat(vectors(1), BLOCK + 2, axis=0)
    segment = await put(world, "vs_1", "file-1", same)
    (found,) = await nearest(world, same[:1], 3)
    assert list(found) == [number(segment, place) for place in range(3)]
    await database.close()


async def test_many_at_once(world: World) -> None:
    await world.store("vs_1")
    rows = vectors(60)

    async def one(n: int) -> None:
        await put(world, "vs_1", f"file-{n}", rows[n * 6 : n * 6 + 6])
        await nearest(world, vectors(1), 5)

    await asyncio.gather(*map(one, range(10)))
    found = await nearest(world, rows, 1)
    assert len({id for each in found for id in each}) == 60
    assert min(max(each.values()) for each in found) > 0.99


def test_packed_vectors_are_small_and_nearly_exact() -> None:
    rows = vectors(100, dimensions=1536)
    assert len(pack(rows)) == 100 * (1536 + 4)
    assert pack(vectors(0)) == b""
