"""Indexing in a real server: crashes, cancels, its end, another embedder, and what is left."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest

from tests.support.stack import COMMAND, Stack
from tests.support.waiting import until

TABLES = ("chunks", "chunk_vectors", "segments", "chunk_words_docsize", "vector_store_files")


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A server of its own, whose claims run out soon."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": "http://127.0.0.1:1/v1",
        "ASSISTANTS_LEASE_SECONDS": "1",
        "ASSISTANTS_SHUTDOWN_GRACE": "0",
    }
    with Stack(settings) as stack:
        yield stack.start()


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """OpenAI's client of that server, which waits for it while it starts again."""
    with openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=5) as client:
        yield client


def long_text(words: int = 200_000) -> bytes:
    """A text that takes seconds to be indexed."""
    return " ".join(f"word{number} stands here." for number in range(words // 3)).encode()


def rows(stack: Stack, table: str) -> int:
    """How many rows a table has."""
    path = stack.database
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def blobs(stack: Stack) -> list[Path]:
    """The files of the local blob store."""
    return [path for path in (stack.directory / "data" / "files").rglob("*") if path.is_file()]


async def test_a_crash_is_taken_up_again(stack: Stack, client: openai.OpenAI) -> None:
    text = long_text()
    file = client.files.create(file=("long.txt", text), purpose="assistants")
    small = client.files.create(file=("small.txt", b"A small file."), purpose="assistants")
    store = client.vector_stores.create(file_ids=[file.id, small.id])
    await until(lambda: rows(stack, "chunks") > 10)
    # Nothing of it is seen before it is whole.
    assert not {each.file_id for each in client.vector_stores.search(store.id, query="word1")} & {
        file.id
    }
    stack.kill()
    stack.start()
    await until(lambda: client.vector_stores.retrieve(store.id).status == "completed")
    found = client.vector_stores.retrieve(store.id)
    assert (found.file_counts.completed, found.file_counts.total) == (2, 2)
    parts = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert "".join(str(part.text) for part in parts) == text.decode()
    assert stack.terminate() == 0, stack.printed()


async def test_the_end_of_a_server_gives_files_back(stack: Stack, client: openai.OpenAI) -> None:
    file = client.files.create(file=("long.txt", long_text()), purpose="assistants")
    store = client.vector_stores.create(file_ids=[file.id])
    await until(lambda: rows(stack, "chunks") > 10)
    assert stack.terminate() == 0, stack.printed()
    stack.start()
    await until(lambda: client.vector_stores.retrieve(store.id).status == "completed")
    assert "Traceback" not in stack.printed()


async def test_a_cancel_works_at_once_and_nothing_is_left(
    stack: Stack, client: openai.OpenAI
) -> None:
    stores = client.vector_stores
    store = stores.create()
    ids = [
        client.files.create(file=(f"{name}.txt", data), purpose="assistants").id
        for name, data in (("long", long_text()), ("other", long_text(300)))
    ]
    done = stores.files.create_and_poll(ids[1], vector_store_id=store.id)
    assert done.status == "completed"
    before = rows(stack, "chunks")
    batch = stores.file_batches.create(store.id, file_ids=ids[:1])
    await until(lambda: rows(stack, "chunks") > before + 10)
    batch = stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert (batch.status, batch.file_counts.cancelled) == ("cancelled", 1)
    assert stores.retrieve(store.id).status == "completed"
    entry = stores.files.retrieve(ids[0], vector_store_id=store.id)
    assert (entry.status, entry.usage_bytes) == ("cancelled", 0)
    # What was written of it goes, and with the store and the files all that is left.
    await until(lambda: rows(stack, "chunks") == before)
    for id in ids:
        client.files.delete(id)
    assert stores.retrieve(store.id).file_counts.total == 0
    stores.delete(store.id)
    await until(lambda: [rows(stack, table) for table in TABLES] == [0] * len(TABLES))
    await until(lambda: blobs(stack) == [])


async def test_another_embedder_is_noticed_and_reindexed(
    stack: Stack, client: openai.OpenAI
) -> None:
    stores = client.vector_stores
    store = stores.create()
    stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"Foxes eat berries."))
    path = stack.database
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE vector_stores SET embedder = 'another'")
        database.execute("UPDATE segments SET embedder = 'another'")
    # By words alone.
    assert [each.filename for each in stores.search(store.id, query="berries")] == ["a.txt"]
    assert "vectors of another embedder" in stack.printed()

    def reindex(*options: str) -> str:
        command = [str(COMMAND), "reindex", *options]
        ended = subprocess.run(command, env=stack.env, capture_output=True, check=True)
        return ended.stdout.decode()

    def embedder() -> str:
        with closing(sqlite3.connect(path)) as database:
            return str(database.execute("SELECT embedder FROM vector_stores").fetchone()[0])

    again = "{} files of {} vector stores are indexed again\n"
    assert reindex() == again.format(1, 1)
    await until(lambda: embedder() != "another")
    assert stores.retrieve(store.id).file_counts.completed == 1
    assert reindex() == again.format(0, 0)
    assert reindex("--all") == again.format(1, 1)
    await until(lambda: stores.retrieve(store.id).file_counts.completed == 1)
