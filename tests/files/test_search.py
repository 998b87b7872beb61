"""Search: what is found, in which order, and what never is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from service.files.chunking import Chunk, Strategy
from service.files.embeddings import EmbeddingFailed, Matrix
from service.files.embeddings.static import StaticEmbedder
from service.files.parsing import ParseFailed
from service.files.results import Result
from storage import fts5, segments, tables, tsvector
from storage.database import Database
from storage.filters import Comparison, Filter
from storage.packed_vectors import PackedVectors
from storage.rows import table
from storage.scope import Scope
from storage.segments import NewChunk
from storage.statements import Statement
from storage.words import words_of
from tests.support.files.world import PROJECT, World, pieces

TEXTS = {
    "file-cats": "Cats purr when they are content. A kitten sleeps most of the day.",
    "file-banks": "The central bank raised its interest rate by half a point in March.",
    "file-code": "Call storage.full_text.search with max_results=20, or sort_by='naïve'.",
    "file-bread": "Knead the dough, let it rise, and bake the bread in a hot oven.",
}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    database = Database(database_url)
    world = World(database)
    await world.store("vs_1")
    for number, (name, text) in enumerate(TEXTS.items()):
        await world.put("vs_1", name, text, {"number": number})
    yield world
    await database.close()


async def search(
    world: World,
    *queries: str,
    stores: Sequence[str] = ("vs_1",),
    limit: int = 10,
    threshold: float = 0.0,
    filter: Filter | None = None,
) -> list[Result]:
    rows = await world.rows(*stores)
    return await world.search.search(PROJECT, rows, queries, limit, threshold, filter)


async def first(world: World, *queries: str) -> str:
    return (await search(world, *queries))[0].file_id


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("interest rates", "file-banks"),
        ("BAKING", "file-bread"),
        ("kittens", "file-cats"),
        ("pets and animals", "file-cats"),
        ("finance", "file-banks"),
        ("max_results", "file-code"),
        ("storage.full_text.search", "file-code"),
        ("naive", "file-code"),
        ("what is the dough", "file-bread"),
    ],
)
async def test_what_is_found_first(world: World, query: str, expected: str) -> None:
    found = (await search(world, query))[0]
    assert found.file_id == expected
    assert found.text == TEXTS[expected]
    assert found.filename == f"{expected}.txt"
    assert found.attributes == {"number": list(TEXTS).index(expected)}


@pytest.mark.parametrize(
    "query",
    [
        *("", " ", "the", "?", '"', "'", "cats AND", "NEAR(", "store:x OR *", "a:b", "-", "cat*"),
        *("\\", "cats & | !", "%s %(x)s :x", "数据", "😀", "x" * 10_000, "cat " * 5000, "{}"),
    ],
)
async def test_no_query_is_refused(world: World, query: str) -> None:
    for each in await search(world, query):
        assert 0 <= each.score <= 1


async def test_words_that_are_nowhere_hide_no_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fts5, tsvector):
        monkeypatch.setattr(module, "AFFORDABLE", 0)
    found = await world.segments.with_words(PROJECT, Scope(("vs_1",)), "plugh xyzzy kittens", 10)
    assert [each.file_id for each in (await world.segments.found(PROJECT, [*found])).values()] == [
        "file-cats"
    ]


async def test_a_common_word_hides_no_rare_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fts5, tsvector):
        monkeypatch.setattr(module, "AFFORDABLE", 50)
    entry = await world.entry("vs_1", "file-words")
    segment = await world.segments.begin(PROJECT, "vs_1", world.embedder.name)
    texts = [" ".join(f"common{n}" for n in range(1200) if (n + at) % 3) for at in range(200)]
    texts = [f"{text} aardvark" if at < 60 else text for at, text in enumerate(texts)]
    chunks = [NewChunk(0, 800, text) for text in [*texts, f"{texts[-1]} zebra"]]
    await world.segments.add(PROJECT, segment, 0, chunks, lambda tx, first: 0)
    await world.point(entry, segment)
    await world.analyze()
    found = await world.segments.with_words(PROJECT, Scope(("vs_1",)), "aardvark zebra", 10)
    assert next(iter(found)) == segments.number(segment, len(texts))


async def test_postgresql_has_nothing_left_to_put_into_its_index(postgresql_url: str) -> None:
    """Those who add fast would be ahead of it, until a statement takes minutes."""
    database = Database(postgresql_url)
    world = World(database)
    await world.store("vs_1")
    await asyncio.gather(*(world.put("vs_1", f"file-{n}", f"cats{n} purr") for n in range(8)))
    pages = Statement[Any](sa.text("SELECT gin_clean_pending_list('chunk_words_by_word')"))
    assert await database.write(lambda tx: tx.value(pages)) == 0
    await database.close()


async def test_scores_fall_and_thresholds_hold(world: World) -> None:
    found = await search(world, "cats and bread")
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert {each.file_id for each in found[:2]} == {"file-cats", "file-bread"}
    above = await search(world, "cats and bread", threshold=scores[1])
    assert [each.score for each in above] == scores[:2]
    assert [each.score for each in await search(world, "cats and bread", limit=1)] == scores[:1]
    assert await search(world, "cats and bread", threshold=1.01) == []


async def test_of_several_queries_each_chunk_has_its_best_score(world: World) -> None:
    one, other = await search(world, "kitten"), await search(world, "interest rate")
    both = await search(world, "kitten", "interest rate")
    best: dict[int, float] = {}
    for each in [*one, *other]:
        best[each.chunk] = max(best.get(each.chunk, 0), each.score)
    assert {each.chunk: pytest.approx(each.score) for each in both} == best


async def test_filters_and_stores(world: World) -> None:
    await world.store("vs_2")
    await world.put("vs_2", "file-other", "Cats of the other store.")
    found = await search(world, "cats", filter=Comparison("gte", "number", 2))
    assert [each.file_id for each in found if each.score > 0.3] == []
    assert {each.file_id for each in found} <= {"file-code", "file-bread"}
    assert {each.file_id for each in await search(world, "cats", stores=("vs_2",))} == {
        "file-other"
    }
    both = await search(world, "cats", stores=("vs_1", "vs_2"))
    assert {"file-cats", "file-other"} <= {each.file_id for each in both}
    assert {each.vector_store_id for each in both} == {"vs_1", "vs_2"}
    assert await search(world, "cats", stores=()) == []
    [gone] = await world.rows("vs_2")
    gone.id = "vs_3"
    assert await world.search.search(PROJECT, [gone], ["cats"], 10) == []


async def test_a_file_that_two_stores_have_is_found_once(world: World) -> None:
    await world.store("vs_2")
    text = " ".join(f"Cat number {number} purrs." for number in range(200))
    await world.put("vs_1", "file-many", text, strategy=Strategy(100, 0))
    found = await search(world, "cat", limit=50)
    for name, its in [*TEXTS.items(), ("file-many", text)]:
        await world.put("vs_2", name, its, strategy=Strategy(100, 0))
    both = await search(world, "cat", stores=("vs_1", "vs_2"), limit=50)
    assert {(each.file_id, each.text) for each in both} == {
        (each.file_id, each.text) for each in found
    }
    assert len(both) == len(found)
    # Others have the places of those that come again.
    assert len(await search(world, "cat", stores=("vs_1", "vs_2"), limit=len(found))) == len(found)


async def test_of_equals_the_first_is_found(world: World) -> None:
    for number in range(3):
        await world.put("vs_1", f"file-{number}", "Zebras graze.")
    assert [each.file_id for each in await search(world, "zebras", limit=1)] == ["file-0"]
    assert [each.file_id for each in await search(world, "zebras", limit=3)] == [
        "file-0",
        "file-1",
        "file-2",
    ]


async def test_what_has_expired_is_not_found(world: World) -> None:
    expire = Statement[Any](
        sa.update(table(tables.File)).where(sa.column("id") == "file-cats").values(expires_at=1)
    )
    await world.database.write(lambda tx: tx.run(expire))
    found = await search(world, "kitten")
    assert found
    assert "file-cats" not in {each.file_id for each in found}


async def test_a_word_is_found_as_soon_as_a_chunk_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fts5, "AFFORDABLE", 1)
    scope = Scope(("vs_1",))
    assert len(await world.segments.with_words(PROJECT, scope, "plugh kitten", 10)) == 1
    segment = await world.put("vs_1", "file-new", "A plugh.")
    found = await world.segments.with_words(PROJECT, scope, "plugh kitten", 10)
    assert segments.number(segment) in found


async def test_a_file_of_a_store_with_many_others_is_found_through_a_filter(world: World) -> None:
    for number in range(110):
        await world.put("vs_1", f"file-{number}", f"Cats purr, says page {number}.", {"odd": True})
    found = await search(world, "cats purr", filter=Comparison("ne", "odd", True))
    assert found[0].file_id == "file-cats"


async def test_nothing_is_visible_before_it_is_whole_nor_after_it_is_deleted(world: World) -> None:
    entry = await world.entry("vs_1", "file-new")
    built = await world.indexer.build(PROJECT, "vs_1", pieces("Zebras graze."), Strategy())
    assert "file-new" not in {each.file_id for each in await search(world, "zebras")}
    await world.point(entry, built.segment)
    assert await first(world, "zebras") == "file-new"
    await world.delete("file-new")
    assert "file-new" not in {each.file_id for each in await search(world, "zebras")}


async def test_a_sweep_leaves_nothing_of_what_nobody_names(world: World) -> None:
    before = await counts(world)
    long = " ".join(f"word{number} and so on." for number in range(12_000))
    await world.put("vs_1", "file-long", long, strategy=Strategy(100, 50))
    await world.indexer.build(PROJECT, "vs_1", pieces("never finished"), Strategy())
    with pytest.raises(ParseFailed):
        await world.indexer.build(PROJECT, "vs_1", broken(), Strategy(100, 50))
    # What has failed is left at once; the same would be done for a crash when nobody goes on.
    assert len(await world.segments.orphans(3600)) == 1
    await world.delete("file-long")
    assert await world.sweep() > 4
    assert await counts(world) == before
    assert await first(world, "cats") == "file-cats"
    assert "word11000" not in " ".join(each.text for each in await search(world, "word11000"))


async def broken() -> AsyncIterator[str]:
    """A file that turns out to be damaged."""
    yield "some words " * 3000
    raise ParseFailed("invalid_file", "damaged")


async def counts(world: World) -> dict[str, int]:
    """The rows of each table of the index, and words that SQLite's has."""
    tables = ["segments", "chunks", "chunk_vectors"]
    if world.database.url.get_backend_name() == "sqlite":
        tables += ["chunk_words_docsize"]
    else:
        tables += ["chunk_words"]
    statements = [sa.select(sa.func.count()).select_from(sa.table(each)) for each in tables]
    values = await world.database.read(
        lambda tx: [int(tx.value(Statement(each))) for each in statements]
    )
    return dict(zip(tables, values, strict=True))


async def test_a_text_comes_back_whole(world: World) -> None:
    text = " ".join(f"word{number}" for number in range(3000))
    segment = await world.put("vs_1", "file-long", text, strategy=Strategy(200, 100))
    chunks = await world.segments.chunks(PROJECT, segment, 0, 1000)
    again = ""
    for chunk in chunks:
        again += chunk.text[len(again) - chunk.start :]
    assert again == text
    assert await world.segments.chunks(PROJECT, segment, 3, 2) == chunks[3:5]


class Failing(StaticEmbedder):
    """Makes no vectors of queries."""

    async def queries(self, texts: Sequence[str]) -> Matrix:
        raise EmbeddingFailed("away")


class Other(StaticEmbedder):
    """Vectors that have nothing to do with the others."""

    name = "other"

    async def documents(self, chunks: Sequence[Chunk]) -> Matrix:
        raise AssertionError("nothing is indexed")


@pytest.mark.parametrize("embedder", [Failing(), Other()])
async def test_without_vectors_words_decide(world: World, embedder: StaticEmbedder) -> None:
    without = World(world.database, world.vectors, embedder)
    found = await search(without, "kitten")
    assert [each.file_id for each in found] == ["file-cats"]
    assert found[0].score == pytest.approx(1)
    assert await search(without, "kitten", threshold=0.9) == found


async def test_searching_while_files_come_and_go(world: World) -> None:
    async def churn(number: int) -> None:
        name = f"file-{number}"
        await world.put("vs_1", name, f"Cats and more cats, number {number}.")
        await world.delete(name)

    async def look() -> None:
        for _ in range(5):
            assert "file-cats" in {each.file_id for each in await search(world, "cats purr")}

    await asyncio.gather(*map(churn, range(12)), *(look() for _ in range(3)))
    await world.sweep()
    assert {each.file_id for each in await search(world, "cats purr")} <= set(TEXTS)


async def test_a_segment_that_was_swept_takes_no_more(world: World) -> None:
    segment = await world.segments.begin(PROJECT, "vs_1", world.embedder.name)
    await world.sweep()
    with pytest.raises(LookupError):
        await world.segments.add(PROJECT, segment, 0, [], lambda tx, first: 0)


def test_words_of_a_query() -> None:
    assert words_of("What is the Capital of FRANCE?") == ["capital", "france"]
    assert words_of("to be or not to be") == ["to", "be", "or", "not"]
    assert words_of("max_results=20") == ["max", "results", "20"]
    assert words_of("?!") == []


async def test_another_project_finds_nothing(world: World) -> None:
    """It names a store that is not its own, and gets neither words nor vectors of it."""
    everything, rows = Scope(("vs_1",)), await world.rows("vs_1")
    assert await world.search.search(PROJECT, rows, ["kittens"], 10)
    assert await world.search.search("proj_2", rows, ["kittens"], 10) == []
    [*found] = await world.segments.with_words(PROJECT, everything, "kittens", 10)
    assert await world.segments.found("proj_2", found) == {}
    [*segments] = await PackedVectors(world.database).segments(PROJECT, everything)
    assert await world.segments.chunks(PROJECT, segments[0], 0, 9)
    assert await world.segments.chunks("proj_2", segments[0], 0, 9) == []
