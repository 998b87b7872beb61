"""How well search answers questions about real documents: no worse than it was."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from service.files.search import CANDIDATES
from service.files.vectors.pgvector import PgvectorIndex
from storage.database import Database
from storage.scope import Scope
from tests.support.files.retrieval import (
    DEPTH,
    Question,
    Scores,
    documents,
    paraphrases,
    score,
    verbatim,
)
from tests.support.files.world import PROJECT, World
from tests.support.postgres import Postgres, migrate, run_async

STORE = Scope(("vs_1",))
LEAST = {
    "words": (Scores(0.96, 0.91), Scores(0.43, 0.27)),
    "vectors": (Scores(0.60, 0.45), Scores(0.34, 0.22)),
    "hybrid": (Scores(0.96, 0.91), Scores(0.45, 0.32)),
}
"""What each kind of search reaches, at least, of verbatim and paraphrased questions."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "postgresql with neighbours"])
def indexed_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database in which the documents are."""
    if request.param == "sqlite":
        directory = tempfile.TemporaryDirectory(prefix="retrieval-")
        request.addfinalizer(directory.cleanup)
        url = f"sqlite:///{Path(directory.name) / 'assistants.db'}"
        run_async(migrate(url))
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        name = postgres.create_database()
        request.addfinalizer(lambda: postgres.drop_database(name))
        url = postgres.url(name)
    run_async(_index(url, neighbours=request.param.endswith("neighbours")))
    return url


async def _index(url: str, *, neighbours: bool) -> None:
    database = Database(url)
    world = World(database)
    await world.store("vs_1")
    for number, text in enumerate(documents().values()):
        await world.put("vs_1", f"file-{number}", text)
    await world.analyze()
    if neighbours:
        assert isinstance(world.vectors, PgvectorIndex)
        await world.vectors.tend(size=1)
    await database.close()


@pytest.fixture
async def world(indexed_url: str) -> AsyncIterator[World]:
    database = Database(indexed_url)
    world = World(database)
    await world.vectors.open()
    yield world
    await database.close()


async def by_words(world: World, question: str) -> list[str]:
    return await texts(world, await world.segments.with_words(PROJECT, STORE, question, DEPTH))


async def by_vectors(world: World, question: str) -> list[str]:
    vectors = await world.embedder.queries([question])
    (found,) = await world.vectors.nearest(PROJECT, STORE, vectors, CANDIDATES)
    return await texts(world, found)


async def by_both(world: World, question: str) -> list[str]:
    found = await world.search.search(PROJECT, await world.rows("vs_1"), [question], DEPTH)
    return [each.text for each in found]


async def texts(world: World, ids: dict[int, float]) -> list[str]:
    found = await world.segments.found(PROJECT, list(ids))
    return [found[id].text for id in ids]


async def test_recall_and_rank(world: World) -> None:
    corpus = documents()
    sets: Sequence[list[Question]] = (verbatim(corpus), paraphrases(corpus))
    assert sum(map(len, sets)) >= 300
    reached: dict[str, list[Scores]] = {}
    for name, search in (("words", by_words), ("vectors", by_vectors), ("hybrid", by_both)):
        reached[name] = [
            score([await search(world, each.text) for each in questions], questions)
            for questions in sets
        ]
    for name, least in LEAST.items():
        for got, wanted in zip(reached[name], least, strict=True):
            assert got.recall >= wanted.recall, reached
            assert got.mrr >= wanted.mrr, reached
    words, hybrid = reached["words"], reached["hybrid"]
    assert hybrid[0].recall >= words[0].recall
    assert hybrid[0].mrr >= words[0].mrr - 0.002
    assert hybrid[1].recall > words[1].recall
    assert hybrid[1].mrr > words[1].mrr
