"""Files in a whole server, on both databases, its blobs in a folder and in S3: all of it, and that
deleting leaves nothing: rows, vectors, text index, blobs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from service.files.blobs.s3 import S3Blobs
from service.files.leftovers import Leftovers
from storage import Storage, ids
from storage.database import Database
from tests.support.files import remains
from tests.support.files.s3 import BUCKET, S3Server
from tests.support.files.stored import stored
from tests.support.model_server import ModelServer
from tests.support.rest.scene import POLL, Scene
from tests.support.script import Answer, Calls
from tests.support.stack import Stack, serving
from tests.support.waiting import until

FOXES = b"Foxes eat berries, mice and beetles. They live in dens.\n" * 200
PARIS = b"The capital of France is Paris. It stands on the Seine.\n" * 200
SEARCH: Any = {"type": "file_search"}
ENDED = {"uploads"}
"""Uploads that have ended stay: whoever completes one again is told that it is completed."""

Blobs = Callable[[], list[str]]


@pytest.fixture(params=["folder", "s3"])
def kept(
    request: pytest.FixtureRequest, database_url: str, model_server: ModelServer
) -> Iterator[tuple[Stack, Blobs]]:
    """A server, and what says which blobs it keeps."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_RETRIES": "0",
        "ASSISTANTS_DATABASE_URL": database_url,
    }
    if request.param == "s3":
        # Asked for by name, so that the others start none.
        s3: S3Server = request.getfixturevalue("s3")
        prefix = ids.new_id("whole")
        env |= s3.env | {"ASSISTANTS_BLOBS_URL": f"s3://{BUCKET}/{prefix}"}
    with serving(env) as stack:
        folder = stack.directory / "data" / "files"
        if request.param == "s3":
            yield stack, lambda: remains.in_bucket(s3, prefix)
            assert remains.in_folder(folder) == []
        else:
            yield stack, lambda: remains.in_folder(folder)


def uploaded(client: openai.OpenAI) -> str:
    """Uploads a file in parts; returns its id."""
    upload = client.uploads.create(
        filename="paris.txt", purpose="assistants", bytes=len(PARIS), mime_type="text/plain"
    )
    parts = [
        client.uploads.parts.create(upload.id, data=data).id
        for data in (PARIS[5000:], PARIS[:5000])
    ]
    file = client.uploads.complete(upload.id, part_ids=parts[::-1]).file
    assert file is not None
    return file.id


def searched(client: openai.OpenAI, models: ModelServer, file_id: str) -> Scene:
    """Runs with a file that a message has attached, and is searched; the answer cites it."""
    call = Calls(("file_search", {"queries": ["foxes"]}))
    model = models.script(call, Answer("They eat berries【1:0†foxes.txt】."))
    assistant = client.beta.assistants.create(model=model, tools=[SEARCH])
    thread = client.beta.threads.create(
        messages=[
            {
                "role": "user",
                "content": "What do foxes eat?",
                "attachments": [{"file_id": file_id, "tools": [SEARCH]}],
            }
        ]
    )
    scene = Scene(client, assistant.id, thread.id)
    assert scene.run().status == "completed"
    [part] = scene.messages()[-1].content
    assert part.type == "text"
    [annotation] = part.text.annotations
    assert annotation.type == "file_citation"
    assert annotation.file_citation.file_id == file_id
    return scene


async def test_a_life(kept: tuple[Stack, Blobs], database_url: str, models: ModelServer) -> None:
    stack, blobs = kept
    before = remains.rows(database_url)
    assert blobs() == []
    with openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0) as client:
        foxes = client.files.create(file=("foxes.txt", FOXES), purpose="assistants").id
        paris = uploaded(client)
        assert client.files.content(paris).content == PARIS
        part = httpx2.get(
            f"{stack.base_url}/files/{paris}/content", headers={"range": "bytes=4990-5009"}
        )
        assert (part.status_code, part.content) == (206, PARIS[4990:5010])
        assert len(blobs()) == 3

        stores = client.vector_stores
        store = stores.create(name="n", expires_after={"anchor": "last_active_at", "days": 1})
        one = stores.files.create_and_poll(
            foxes, vector_store_id=store.id, attributes={"year": 1}, poll_interval_ms=POLL
        )
        batch = stores.file_batches.create_and_poll(
            store.id, file_ids=[paris], poll_interval_ms=POLL
        )
        assert (one.status, batch.status, batch.file_counts.completed) == (
            "completed",
            "completed",
            1,
        )
        counts = stores.retrieve(store.id).file_counts
        assert (counts.completed, counts.total) == (2, 2)
        assert stores.search(store.id, query="Seine").data[0].file_id == paris
        found = stores.search(
            store.id, query="Seine", filters={"type": "eq", "key": "year", "value": 1}
        )
        assert {each.file_id for each in found} == {foxes}
        text = stores.files.content(paris, vector_store_id=store.id)
        assert "".join(str(each.text) for each in text).encode() == PARIS
        scene = searched(client, models, foxes)
        assert remains.rows(database_url)["chunks"] > 2
        if database_url.startswith("sqlite"):
            assert remains.indexed(database_url, "foxes") > 2

        # A store goes with its entries, a file with its own, a thread with its store.
        client.files.delete(foxes)
        counts = stores.retrieve(store.id).file_counts
        assert (counts.completed, counts.total) == (1, 1)
        assert {each.file_id for each in stores.search(store.id, query="foxes")} <= {paris}
        stores.delete(store.id)
        client.files.delete(paris)
        client.beta.threads.delete(scene.thread_id)
        client.beta.assistants.delete(scene.assistant_id)

    def left() -> dict[str, int]:
        found = remains.rows(database_url)
        return {name: count for name, count in found.items() if name not in ENDED}

    await until(lambda: left() == before)
    assert [remains.indexed(database_url, word) for word in ("foxes", "paris")] == [0, 0]
    await until(lambda: blobs() == [])


async def test_a_sweep_empties_a_bucket(
    database_url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash has left between a blob and its row."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    prefix = ids.new_id("swept")
    blobs = S3Blobs(f"s3://{BUCKET}/{prefix}")
    await stored(blobs, FOXES)
    assert len(remains.in_bucket(s3, prefix)) == 1
    database = Database(database_url)
    storage = Storage(database)
    assert await Leftovers(storage.files, storage.uploads, blobs).sweep(old=-60) == 1
    assert remains.in_bucket(s3, prefix) == []
    await blobs.close()
    await database.close()
