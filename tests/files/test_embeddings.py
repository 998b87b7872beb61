"""Embedders: static vectors, and those of a server."""

import asyncio

import numpy as np
import pytest
from aiohttp import web

from service.files.chunking import Chunk, Chunker, Strategy
from service.files.embeddings import EmbeddingFailed, Matrix, TextRefused, normalized, remote
from service.files.embeddings.remote import BATCH, REQUESTS, RemoteEmbedder
from service.files.embeddings.static import StaticEmbedder
from tests.support.files.embedding_server import EmbeddingServer, Reply, refusing, reply, vector
from tests.support.waiting import SECONDS, until


def chunks_of(*texts: str) -> list[Chunk]:
    found = []
    for text in texts:
        chunker = Chunker(Strategy(4096, 0))
        found += chunker.feed(text) + chunker.finish()
    assert len(found) == len(texts)
    return found


def expected(*texts: str) -> Matrix:
    return normalized(np.array([vector(text) for text in texts], dtype=np.float32))


async def test_static_vectors_tell_what_texts_are_about() -> None:
    embedder = StaticEmbedder()
    documents = await embedder.documents(
        chunks_of("The cat sat on the mat and purred.", "Interest rates of banks rose in March.")
    )
    queries = await embedder.queries(["kittens and other pets", "finance, money", ""])
    scores = queries @ documents.T
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]
    assert scores[2].tolist() == [0, 0]
    assert np.allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-5)


async def test_static_vectors_are_the_same_however_many_come_at_once() -> None:
    embedder = StaticEmbedder()
    chunks = chunks_of("one text", "another, longer text", "a third")
    together = await embedder.documents(chunks)
    for row, chunk in zip(together, chunks, strict=True):
        assert np.array_equal(row, (await embedder.documents([chunk]))[0])
    assert (await embedder.documents([])).shape == (0, 256)


async def test_a_server_is_asked_in_batches_and_vectors_keep_their_order() -> None:
    texts = [f"text {'a' * n} e" for n in range(BATCH * 2 + 5)]
    async with EmbeddingServer() as server:
        embedder = RemoteEmbedder(server.base_url, "m", "the-key")
        rows = await embedder.queries(texts)
        await embedder.close()
    assert np.allclose(rows, expected(*texts))
    assert sorted(len(each["input"]) for each in server.requests) == [5, BATCH, BATCH]
    assert {each["model"] for each in server.requests} == {"m"}
    assert {each["Authorization"] for each in server.headers} == {"Bearer the-key"}


BROKEN: list[Reply] = [
    refusing(429, **{"retry-after": "0"}),
    refusing(503),
    lambda _: web.Response(text="no JSON"),
    lambda _: web.json_response({"data": []}),
    lambda _: web.json_response({"data": [{"index": 0, "embedding": [None]}]}),
]


async def test_what_may_pass_is_asked_again() -> None:
    async with EmbeddingServer(*BROKEN) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k", delay=0.001)
        rows = await embedder.documents(chunks_of("a text"))
        await embedder.close()
    assert np.allclose(rows, expected("a text"))
    assert len(server.requests) == len(BROKEN) + 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, TextRefused),
        (422, TextRefused),
        (401, EmbeddingFailed),
        (404, EmbeddingFailed),
        (503, EmbeddingFailed),
    ],
)
async def test_it_gives_up(status: int, kind: type[Exception]) -> None:
    async with EmbeddingServer(usual=refusing(status)) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k", delay=0.001)
        with pytest.raises(EmbeddingFailed, match=str(status)) as failed:
            await embedder.documents(chunks_of(*["text"] * 3))
        assert type(failed.value) is kind
        await embedder.close()
    assert 1 <= len(server.requests) <= 8


async def test_queries_are_asked_for_twice_and_documents_more_often() -> None:
    async with EmbeddingServer(usual=refusing(503)) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k", delay=0.001)
        with pytest.raises(EmbeddingFailed, match="503"):
            await embedder.queries(["text"] * 3)
        assert len(server.requests) == 2
        with pytest.raises(EmbeddingFailed, match="503"):
            await embedder.documents(chunks_of("text"))
        assert len(server.requests) == 2 + 7
        await embedder.close()


async def test_queries_do_not_wait_for_a_server_that_wants_to_be_left_alone() -> None:
    async with EmbeddingServer(usual=refusing(429, **{"retry-after": "30"})) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        with pytest.raises(EmbeddingFailed, match="429"):
            await embedder.queries(["text"])
        await embedder.close()
    assert len(server.requests) == 1


async def test_queries_of_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "QUERY_PATIENCE", 0.1)
    free = asyncio.Event()
    async with EmbeddingServer(usual=held(free)) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        with pytest.raises(EmbeddingFailed, match=r"no answer in 0\.1 seconds"):
            async with asyncio.timeout(SECONDS):
                await embedder.queries(["text"])
        free.set()
        await embedder.close()


async def test_queries_do_not_wait_for_what_is_indexed() -> None:
    free = asyncio.Event()
    script = [held(free)] * REQUESTS
    chunks = chunks_of(*["a text"] * (BATCH * (REQUESTS + 1)))
    async with EmbeddingServer(*script) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        indexing = asyncio.create_task(embedder.documents(chunks))
        await until(lambda: len(server.requests) == REQUESTS)
        async with asyncio.timeout(SECONDS):
            assert np.allclose(await embedder.queries(["a query"]), expected("a query"))
        # One of indexing's was waiting behind the others.
        assert len(server.requests) == REQUESTS + 1
        free.set()
        assert len(await indexing) == len(chunks)
        await embedder.close()


def held(free: asyncio.Event) -> Reply:
    """An answer that comes when it may."""

    async def answer(texts: list[str]) -> web.Response:
        await free.wait()
        return reply(texts)

    return answer


async def test_a_server_that_is_away() -> None:
    embedder = RemoteEmbedder("http://127.0.0.1:9/v1", "m", "k", delay=0.001)
    with pytest.raises(EmbeddingFailed):
        await embedder.queries(["text"])
    await embedder.close()


async def test_fewer_texts_for_a_server_that_takes_no_more() -> None:
    def few(texts: list[str]) -> web.Response:
        return reply(texts) if len(texts) <= 4 else refusing(413)(texts)

    texts = [f"text {n * 'i'}" for n in range(13)]
    async with EmbeddingServer(usual=few) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        assert np.allclose(await embedder.queries(texts), expected(*texts))
        await embedder.close()


async def test_a_text_that_is_too_long_is_the_mean_of_its_parts() -> None:
    def short(texts: list[str]) -> web.Response:
        return reply(texts) if max(map(len, texts)) <= 1000 else refusing(400)(texts)

    texts = ["a u " * 900, "short"]
    async with EmbeddingServer(usual=short) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        rows = await embedder.queries(texts)
        await embedder.close()
    assert rows.shape == (2, 5)
    assert float(rows[0] @ expected(texts[0])[0]) > 0.99
    assert np.allclose(rows[1], expected("short"))


async def test_an_empty_text_has_a_vector() -> None:
    async with EmbeddingServer() as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        assert (await embedder.queries(["", " "])).shape == (2, 5)
        await embedder.close()
    assert all(text.strip() for each in server.requests for text in each["input"])


async def test_vectors_of_several_lengths_are_refused() -> None:
    def odd(texts: list[str]) -> web.Response:
        data = [{"index": n, "embedding": [1.0] * (n + 1)} for n in range(len(texts))]
        return web.json_response({"data": data})

    async with EmbeddingServer(usual=odd) as server:
        embedder = RemoteEmbedder(server.base_url, "m", "k")
        with pytest.raises(EmbeddingFailed, match="several lengths"):
            await embedder.queries(["a", "b"])
        await embedder.close()
