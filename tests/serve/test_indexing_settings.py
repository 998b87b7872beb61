"""Servers of embeddings, a model that words queries anew, and files that mean harm."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import openai
import pytest

from tests.support.files import samples
from tests.support.files.embedding_server import EmbeddingServer, refusing, reply
from tests.support.model_server import ModelServer
from tests.support.script import Answer, BreakOff
from tests.support.stack import Stack, serving
from tests.support.waiting import until

FOXES = ("foxes.txt", b"Foxes eat berries, mice and beetles.")


@contextmanager
def connected(**settings: str) -> Iterator[tuple[Stack, openai.OpenAI]]:
    """Gives a server with these settings, whose claims run out soon, and its client."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": "http://127.0.0.1:1/v1",
        "ASSISTANTS_MODEL_RETRIES": "0",
        "ASSISTANTS_LEASE_SECONDS": "1",
        **{f"ASSISTANTS_{name}": value for name, value in settings.items()},
    }
    with (
        serving(env) as stack,
        openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=0) as client,
    ):
        yield stack, client


async def in_thread(call: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls while the loop, in which the other server is, goes on."""
    return await asyncio.to_thread(call, *args, **kwargs)


async def test_a_server_of_embeddings() -> None:
    async with EmbeddingServer(refusing(503, **{"retry-after": "0"})) as embeddings:
        with connected(
            EMBEDDINGS_BASE_URL=embeddings.base_url,
            EMBEDDINGS_MODEL="small",
            EMBEDDINGS_API_KEY="a key for embeddings",
        ) as (stack, client):
            stores = client.vector_stores
            store = await in_thread(stores.create)
            entry = await in_thread(
                stores.files.upload_and_poll, vector_store_id=store.id, file=FOXES
            )
            assert entry.status == "completed"
            found = await in_thread(stores.search, store.id, query="berries")
            assert [each.filename for each in found.data] == ["foxes.txt"]
            path = stack.database
            with closing(sqlite3.connect(path)) as database:
                [embedder] = database.execute("SELECT embedder FROM vector_stores").fetchone()
            assert embedder.startswith("small@")
            assert "a key for embeddings" not in stack.printed()
        assert {request["model"] for request in embeddings.requests} == {"small"}
        assert {each["Authorization"] for each in embeddings.headers} == {
            "Bearer a key for embeddings"
        }


async def test_a_server_of_embeddings_that_refuses() -> None:
    async with EmbeddingServer(usual=refusing(401)) as embeddings:
        with connected(EMBEDDINGS_BASE_URL=embeddings.base_url) as (_, client):
            stores = client.vector_stores
            store = await in_thread(stores.create)
            entry = await in_thread(
                stores.files.upload_and_poll, vector_store_id=store.id, file=FOXES
            )
            assert entry.status == "failed"
            assert entry.last_error.to_dict() == {
                "code": "server_error",
                "message": "An internal error occurred.",
            }
            assert len(embeddings.requests) == 3
            # By words alone.
            assert (await in_thread(stores.search, store.id, query="berries")).data == []


async def test_a_server_of_embeddings_that_goes_away() -> None:
    async with EmbeddingServer(reply, usual=refusing(503)) as embeddings:
        with connected(EMBEDDINGS_BASE_URL=embeddings.base_url) as (_, client):
            stores = client.vector_stores
            store = await in_thread(stores.create)
            await in_thread(stores.files.upload_and_poll, vector_store_id=store.id, file=FOXES)
            found = await in_thread(stores.search, store.id, query="berries")
            assert [each.filename for each in found.data] == ["foxes.txt"]
            # Once for the file, twice for the query: it goes by words alone then.
            assert len(embeddings.requests) == 3


async def test_queries_that_a_model_words_anew(models: ModelServer) -> None:
    model = models.script(Answer('"berries  beetles"'), BreakOff("berr"))
    with connected(MODEL_BASE_URL=models.base_url, REWRITING_MODEL=model) as (_, client):
        store = client.vector_stores.create()
        client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=FOXES)
        queries = [
            client.vector_stores.with_raw_response.search(
                store.id, query="Could you tell me what they eat?", rewrite_query=rewrite
            ).http_response.json()["search_query"]
            for rewrite in (True, True, False)
        ]
        asked = ["Could you tell me what they eat?"]
        assert queries == [["berries beetles"], asked, asked]
        assert len(models.requests(model)) == 2


HOSTILE = [
    ("bomb.docx", samples.docx_bomb(1500, 1500 * 2**20)),
    ("liar.docx", samples.docx_bomb(500, 10_000)),
    ("stream.pdf", samples.pdf("x", stream=b"\x78\x9c" + samples.bomb(1000, b"q "))),
    ("loop.pdf", samples.pdf("x").replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]")),
    ("cut.pdf", samples.pdf("x")[:200]),
    ("locked.pdf", samples.pdf("secret", encrypted=True)),
    ("nested.docx", samples.docx_of(samples.body("<w:p>" * 50_000 + "</w:p>" * 50_000))),
    ("scan.pdf", samples.pdf("", "")),
    ("zeros.txt", bytes(10_000)),
    ("\u202e../../etc/passwd\n.txt", b""),
]


@pytest.mark.parametrize("concurrency", ["3"])
async def test_files_that_mean_harm(concurrency: str) -> None:
    with connected(INDEXING_CONCURRENCY=concurrency) as (stack, client):
        store = client.vector_stores.create()
        ids = [
            client.files.create(file=each, purpose="assistants").id for each in [*HOSTILE, FOXES]
        ]
        batch = client.vector_stores.file_batches.create(store.id, file_ids=ids)

        def ended() -> bool:
            named: Any = {"batch_id": batch.id, "vector_store_id": store.id}
            return client.vector_stores.file_batches.retrieve(**named).status == "completed"

        # Each of them may take its half minute.
        for _ in range(4):
            try:
                await until(ended)
                break
            except TimeoutError:
                continue
        entries = client.vector_stores.files.list(store.id, order="asc").data
        assert [each.status for each in entries] == ["failed"] * len(HOSTILE) + ["completed"]
        codes = {each.last_error.code for each in entries if each.last_error}
        assert codes == {"invalid_file", "unsupported_file"}
        found = client.vector_stores.search(store.id, query="berries").data
        assert [each.filename for each in found] == ["foxes.txt"]
        assert "Traceback" not in stack.printed()
