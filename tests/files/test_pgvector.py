"""Indexes of neighbours: when there are any, what they find, and PostgreSQL without pgvector."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import make_url
from structlog.testing import capture_logs

from service.files.embeddings import Matrix, normalized
from service.files.vectors import Scores
from service.files.vectors.packed import PackedIndex
from service.files.vectors.pgvector import PgvectorIndex
from storage import embeddings, pgvector
from storage.database import Database
from storage.filters import Comparison
from storage.scope import ENTRIES, Scope
from storage.statements import Statement
from tests.support.files.vectors import DIMENSIONS, add, put, vectors
from tests.support.files.world import PROJECT, World
from tests.support.postgres import Postgres, migrate

SIZE = 20
"""Chunks of a vector store that is large, for these tests."""


@contextlib.asynccontextmanager
async def world_at(url: str) -> AsyncIterator[World]:
    """Gives vector stores of a database, as a server sees them that starts."""
    database = Database(url)
    world = World(database, PgvectorIndex(database))
    await world.vectors.open()
    yield world
    await database.close()


@pytest.fixture
async def world(postgresql_url: str) -> AsyncIterator[World]:
    async with world_at(postgresql_url) as world:
        yield world


async def tend(world: World) -> list[str]:
    """Tends, and returns the indexes that there are then."""
    assert isinstance(world.vectors, PgvectorIndex)
    # What vector stores count, which says whether one may be large.
    await execute(world, "UPDATE vector_stores SET usage_bytes = 1000000")
    await world.vectors.tend(SIZE)
    statement = Statement[tuple[str]](
        sa.text(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = :table ::regclass"
        )
    )
    rows = await world.database.read(lambda tx: tx.all(statement, table=pgvector.NAME))
    return sorted(name for (name,) in rows if name.startswith("neighbours"))


async def execute(world: World, statement: str) -> None:
    await world.database.write(lambda tx: tx.run(Statement(sa.text(statement))))


async def count(world: World, table: str = pgvector.NAME) -> int:
    statement = Statement[tuple[int]](sa.select(sa.func.count()).select_from(sa.table(table)))
    return int(await world.database.read(lambda tx: tx.value(statement)))


async def nearest(world: World, queries: Matrix, limit: int, scope: Scope) -> list[Scores]:
    return await world.vectors.nearest(PROJECT, scope, queries, limit)


async def by_index(world: World, queries: Matrix, limit: int, scope: Scope) -> list[Scores]:
    """What the indexes alone find."""
    texts = [f"[{','.join(map(str, query.tolist()))}]" for query in queries]
    found, _ = await embeddings.Embeddings(world.database).nearest(
        PROJECT, scope, texts, DIMENSIONS, limit
    )
    return [dict(each) for near in found.values() for each in near]


async def test_an_index_finds_nearly_all_that_is_nearest(world: World) -> None:
    one, other = Scope(("vs_1",)), Scope(("vs_2",))
    rows = vectors(1200)
    for store, part in (("vs_1", rows[:600]), ("vs_2", rows[600:])):
        await world.store(store)
        await put(world, store, f"file-{store}", part)
    assert await by_index(world, rows[:1], 10, one) == []
    assert await tend(world) == [f"neighbours_{DIMENSIONS}_vs_1", f"neighbours_{DIMENSIONS}_vs_2"]
    queries = normalized(rows[:40] + 0.5 * vectors(40, seed=2))
    packed = await PackedIndex(world.database).nearest(PROJECT, one, queries, 10)
    found = await by_index(world, queries, 10, one)
    for each, near in zip(await nearest(world, queries, 10, one), found, strict=True):
        assert each.keys() <= near.keys()
        assert list(each.values()) == sorted(each.values(), reverse=True)
    hits = sum(len(near.keys() & exact.keys()) for near, exact in zip(found, packed, strict=True))
    assert hits >= 0.9 * 400
    both = await nearest(world, queries[:1], 600, Scope(("vs_1", "vs_2")))
    assert len({id >> 20 for id in both[0]}) == 2
    assert await by_index(world, queries, 10, other) != found


async def test_a_search_looks_into_the_index(world: World) -> None:
    await world.store("vs_1")
    for page in range(110):
        await world.put("vs_1", f"file-{page}", f"Cats purr, says page {page}.")
    await tend(world)
    # So that nothing else has a vector.
    await execute(world, "DELETE FROM chunk_vectors")
    found = await world.search.search(PROJECT, await world.rows("vs_1"), ["kittens"], 5)
    assert len(found) == 5


async def test_the_plan_is_to_use_the_index(world: World, postgresql_url: str) -> None:
    await world.store("vs_1")
    await put(world, "vs_1", "file-1", vectors(400))
    await tend(world)
    for where in (None, Comparison("eq", "kind", "a")):
        statement, params = embeddings._nearest(DIMENSIONS).of(where, ENTRIES.c.attributes)
        compiled = statement.compiled("postgresql")
        settings = embeddings.Embeddings.SETTINGS.compiled("postgresql").sql
        given = {**compiled.fixed, **params, "project_id": PROJECT, "store": "vs_1", "limit": 10}
        given |= {"stores": '["vs_1"]', "query": str([0.1] * DIMENSIONS)}
        with psycopg.connect(postgresql_url, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(settings.encode(), {"scanned": 1000, "looked_at": 100})
            rows = connection.execute(f"EXPLAIN {compiled.sql}".encode(), given).fetchall()
        plan = "\n".join(line for (line,) in rows)
        assert f"Index Scan using neighbours_{DIMENSIONS}_vs_1" in plan, plan
        assert "Sort" not in plan, plan


async def test_what_is_added_later_is_in_the_index(world: World) -> None:
    await world.store("vs_1")
    await put(world, "vs_1", "file-1", vectors(100))
    await tend(world)
    new = vectors(50, seed=7)
    segment = await put(world, "vs_1", "file-2", new)
    assert await count(world) == 150
    found = await by_index(world, new[:5], 1, Scope(("vs_1",)))
    assert [id >> 20 for each in found for id in each] == [segment] * 5
    # Indexed again, with vectors of another length: the index is made anew.
    for file in ("file-1", "file-2"):
        await world.delete(file)
    await world.sweep()
    assert await count(world) == await count(world, "chunk_vectors") == 0
    await put(world, "vs_1", "file-3", vectors(40, dimensions=64))
    assert await count(world) == 0
    assert await tend(world) == ["neighbours_64_vs_1"]
    assert await count(world) == 40


async def test_a_filter_finds_what_is_far_away(world: World) -> None:
    await world.store("vs_1")
    rows = vectors(400)
    await put(world, "vs_1", "file-1", rows, kind="near")
    far = await put(world, "vs_1", "file-2", -rows[:30], kind="far")
    await tend(world)
    scope = Scope(("vs_1",), Comparison("eq", "kind", "far"))
    for limit in (5, 100):
        (found,) = await nearest(world, rows[:1], limit, scope)
        assert {id >> 20 for id in found} == {far}
        assert len(found) == min(limit, 30)


async def test_indexes_come_and_go_with_the_size(world: World) -> None:
    for store in ("vs_1", "vs_2"):
        await world.store(store)
    await put(world, "vs_1", "file-1", vectors(SIZE // 2))
    assert await tend(world) == []
    await put(world, "vs_1", "file-2", vectors(SIZE // 2))
    await put(world, "vs_2", "file-3", vectors(SIZE - 1))
    assert await tend(world) == [name := f"neighbours_{DIMENSIONS}_vs_1"]
    # Half as many are enough to keep it.
    await world.delete("file-1")
    await world.sweep()
    assert await tend(world) == [name]
    # What is left where building was broken off is made anew.
    await execute(
        world,
        "UPDATE pg_index SET indisvalid = false WHERE NOT indisprimary "
        f"AND indrelid = '{pgvector.NAME}'::regclass",
    )
    assert await by_index(world, vectors(1), 1, Scope(("vs_1",))) == []
    assert await tend(world) == [name]
    assert await by_index(world, vectors(1), 1, Scope(("vs_1",))) != []
    await world.delete("file-2")
    assert await tend(world) == []
    assert await count(world) == 0
    assert await nearest(world, vectors(1), 1, Scope(("vs_2",))) != [{}]


async def test_nothing_is_missed_while_an_index_is_made(world: World) -> None:
    await world.store("vs_1")
    await put(world, "vs_1", "file-0", vectors(SIZE))

    async def write(n: int) -> None:
        entry = await world.entry("vs_1", f"file-{n}")
        segment = await world.segments.begin(PROJECT, "vs_1", "e")
        for place in range(0, 40, 10):
            await add(world, segment, place, vectors(10, seed=10 * n + place))
        await world.point(entry, segment)

    await asyncio.gather(*map(write, range(1, 9)), tend(world))
    assert await count(world) == SIZE + 8 * 40
    assert await tend(world) == [f"neighbours_{DIMENSIONS}_vs_1"]


async def test_of_servers_that_tend_one_does(world: World) -> None:
    await world.store("vs_1")
    await put(world, "vs_1", "file-1", vectors(SIZE))
    await asyncio.gather(*(tend(world) for _ in range(4)))
    assert await tend(world) == [f"neighbours_{DIMENSIONS}_vs_1"]


@pytest.fixture
def restricted(postgres: Postgres) -> Iterator[tuple[str, str]]:
    """The URLs of a database: as a role that may not create extensions, and as one that may."""
    name = postgres.create_database("template0")
    url = postgres.url(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE restricted LOGIN")
        connection.execute("GRANT CREATE ON SCHEMA public TO restricted")
    as_restricted = make_url(url).set(username="restricted")
    yield as_restricted.render_as_string(hide_password=False), url
    postgres.drop_database(name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP ROLE restricted")


async def test_without_the_extension_vectors_are_packed_alone(restricted: tuple[str, str]) -> None:
    url, url_of_owner = restricted
    await migrate(url)
    rows, everything = vectors(100), Scope(("vs_1",))
    with capture_logs() as logs:
        async with world_at(url) as world:
            # There is nothing to be done beside.
            await world.vectors.work()
            await world.store("vs_1")
            await put(world, "vs_1", "file-1", rows)
            await put(world, "vs_1", "file-2", rows)
            await world.delete("file-2")
            await world.sweep()
            found = await nearest(world, rows[:3], 5, everything)
            assert [max(each, key=each.__getitem__) & 0xFFFFF for each in found] == [0, 1, 2]
    assert [each["because"] for each in logs] == ["CREATE EXTENSION vector is not allowed"]
    # Whoever may create it does: what is there is found by an index from the next start on.
    with psycopg.connect(url_of_owner, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    await migrate(url)
    async with world_at(url) as world:
        assert await nearest(world, rows[:3], 5, everything) == found
        assert await tend(world) == [f"neighbours_{DIMENSIONS}_vs_1"]
        again = await nearest(world, rows[:3], 5, everything)
        assert [max(each, key=each.__getitem__) & 0xFFFFF for each in again] == [0, 1, 2]
