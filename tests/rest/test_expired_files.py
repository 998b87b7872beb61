"""Files and vector stores whose time is up, over REST and gRPC, and in runs."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import grpc
import openai
import pytest
from assistants.v1 import files_pb2, vector_store_files_pb2, vector_stores_pb2

from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Stubs
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, expect, function
from tests.support.script import Answer, Calls
from tests.support.stack import Stack
from tests.support.waiting import until

TEXT = b"Foxes eat berries, mice and beetles.\n" * 20
SEARCH: Any = {"type": "file_search"}
DAY: Any = {"anchor": "last_active_at", "days": 1}


def pass_time(server: Stack, table: str, id: str) -> None:
    """Makes the end of a row's time now."""
    path = server.database
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        changed = database.execute(
            f"UPDATE {table} SET expires_at = ? WHERE id = ?", [int(time.time()), id]
        )
        assert changed.rowcount == 1


def upload(client: openai.OpenAI, **given: Any) -> str:
    return client.files.create(file=("foxes.txt", TEXT), purpose="assistants", **given).id


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert isinstance(error.value, grpc.Call)
    return error.value.code(), str(error.value.details())


async def test_an_expired_vector_store(
    server: Stack, client: openai.OpenAI, models: ModelServer
) -> None:
    stores = client.vector_stores
    file_id = upload(client)
    store = stores.create(expires_after=DAY)
    stores.files.create_and_poll(file_id, vector_store_id=store.id, poll_interval_ms=20)
    resources: Any = {"file_search": {"vector_store_ids": [store.id]}}
    scene = Scene.create(client, models.script(), tools=[SEARCH], tool_resources=resources)
    pass_time(server, "vector_stores", store.id)

    found = stores.retrieve(store.id)
    assert (found.status, found.file_counts.total, found.usage_bytes) == ("expired", 0, 0)
    assert [each.status for each in stores.list(limit=1).data] == ["expired"]
    text = f"Vector store '{store.id}' has expired"
    for call in (
        lambda _: stores.search(store.id, query="foxes"),
        lambda _: stores.files.create(vector_store_id=store.id, file_id=file_id),
        lambda _: stores.file_batches.create(store.id, file_ids=[file_id]),
        lambda _: stores.update(store.id, expires_after=None),
    ):
        expect(client, call, 400, text, None, None)
    assert stores.files.list(store.id).data == []
    lost = f"No file found with id '{file_id}' in vector store '{store.id}'."
    for entry in (stores.files.retrieve, stores.files.content):
        expect(
            client,
            lambda _, one=entry: one(file_id, vector_store_id=store.id),  # type: ignore[misc]
            404,
            lost,
            None,
            None,
        )
    expect(client, lambda _: scene.start(), 400, f"Vector store {store.id} is expired", None, None)

    with connect(server.grpc_address) as stubs:
        one = vector_stores_pb2.GetVectorStoreRequest(vector_store_id=store.id)
        shown = stubs.vector_stores.GetVectorStore(one)
        assert shown.status == vector_stores_pb2.VectorStore.expired
        query = vector_stores_pb2.SearchVectorStoreRequest(vector_store_id=store.id)
        query.query.string_value = "foxes"
        new = vector_store_files_pb2.CreateVectorStoreFileRequest(
            vector_store_id=store.id, file_id=file_id
        )
        for asked in (
            lambda: stubs.vector_stores.SearchVectorStore(query),
            lambda: stubs.vector_store_files.CreateVectorStoreFile(new),
        ):
            assert refused(asked) == (grpc.StatusCode.FAILED_PRECONDITION, text)
    # The file stays; the store goes.
    assert client.files.retrieve(file_id).bytes == len(TEXT)
    assert stores.delete(store.id).deleted


async def test_a_store_that_expires_under_a_run(
    server: Stack, client: openai.OpenAI, models: ModelServer
) -> None:
    """The run goes on without it, also if its model goes on calling what it was offered."""
    store = client.vector_stores.create(expires_after=DAY)
    client.vector_stores.files.create_and_poll(
        upload(client), vector_store_id=store.id, poll_interval_ms=20
    )
    # The second search is called where the tool is not offered any more.
    search = partial(Calls, ("file_search", {"queries": ["foxes"]}))
    answer = Answer("Berries【1:0†foxes.txt】, fish【2:0†foxes.txt】.")
    model = models.script(search(), Calls(("wait", {})), search(), answer)
    scene = Scene.create(
        client,
        model,
        tools=[SEARCH, function("wait")],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    )
    run = scene.run()
    assert run.status == "requires_action" and run.required_action
    pass_time(server, "vector_stores", store.id)
    [call] = run.required_action.submit_tool_outputs.tool_calls
    client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=[{"tool_call_id": call.id, "output": "."}]
    )
    assert scene.end_of(run).status == "completed"
    assert scene.texts()[-1] == "Berries【1:0†foxes.txt】, fish."
    [part] = scene.messages()[-1].content
    assert part.type == "text"
    assert [each.text for each in part.text.annotations] == ["【1:0†foxes.txt】"]


async def test_an_expired_file(server: Stack, client: openai.OpenAI) -> None:
    after: Any = {"anchor": "created_at", "seconds": 3600}
    file_id = upload(client, expires_after=after)
    store = client.vector_stores.create()
    client.vector_stores.files.create_and_poll(
        file_id, vector_store_id=store.id, poll_interval_ms=20
    )
    pass_time(server, "files", file_id)
    text = f"No such File object: {file_id}"
    for call in (
        lambda _: client.files.retrieve(file_id),
        lambda _: client.files.content(file_id),
    ):
        expect(client, call, 404, text, "id", None)
    assert file_id not in {each.id for each in client.files.list(limit=5).data}
    named = f"No file found with id '{file_id}'."
    other = client.vector_stores.create().id
    expect(
        client,
        lambda _: client.vector_stores.files.create(other, file_id=file_id),
        404,
        named,
        None,
        None,
    )
    with connect(server.grpc_address) as stubs:
        assert gone(stubs, file_id) == (grpc.StatusCode.NOT_FOUND, text)
    # It leaves its vector stores when it is swept.
    await until(lambda: client.vector_stores.retrieve(store.id).file_counts.total == 0)
    assert client.vector_stores.search(store.id, query="foxes").data == []


def gone(stubs: Stubs, file_id: str) -> tuple[grpc.StatusCode, str]:
    return refused(lambda: stubs.files.GetFile(files_pb2.GetFileRequest(file_id=file_id)))
