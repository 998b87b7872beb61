"""Streams that are refused late, as the database was busy: with a status all the same."""

import contextlib
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.resuming import Reader
from tests.support.rest.scene import Scene, function, wait
from tests.support.script import Answer, Calls, Hold
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS, until


@pytest.fixture(scope="module")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own, whose silent streams soon get comments."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_KEEP_ALIVE_SECONDS": "0.1",
        "ASSISTANTS_SHUTDOWN_GRACE": "0",
    }
    with serving(settings) as stack:
        yield stack


@contextlib.contextmanager
def locked(server: Stack) -> Iterator[None]:
    """Lets nobody else write to the server's database."""
    file = server.database
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def test_no_comment_comes_before_a_refusal(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    model = models.script(hold, Calls(("look", {})))
    silent = Scene.create(client, model, tools=[function("look")])
    run = silent.start()
    wait(hold.held)
    calling = Scene(client, silent.assistant_id, client.beta.threads.create().id)
    action = calling.run()
    body: dict[str, Any] = {"assistant_id": silent.assistant_id, "stream": True}
    outputs = {"tool_outputs": [{"tool_call_id": "call_other", "output": "1"}], "stream": True}
    refusals = {
        "/threads/thread_x/runs": (body, 404),
        f"/threads/{run.thread_id}/runs": (body, 400),
        f"/threads/{action.thread_id}/runs/{action.id}/submit_tool_outputs": (outputs, 400),
    }
    comments: list[str] = []
    with (
        Reader(server, run).open(None, comments) as events,
        ThreadPoolExecutor() as threads,
        httpx2.Client(base_url=server.base_url, timeout=SECONDS) as http,
    ):
        reading = threads.submit(list, events)
        with locked(server):
            posts = [
                threads.submit(http.post, server.base_url + path, json=given)
                for path, (given, _) in refusals.items()
            ]
            # Whose stream has begun gets a comment: it is alive.
            before = len(comments)
            await until(lambda: len(comments) > before + 10)
            assert not any(post.done() for post in posts)
        answers = [post.result() for post in posts]
        hold.release()
        reading.result()
    assert [answer.status_code for answer in answers] == [code for _, code in refusals.values()]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_resumed_stream_gets_comments_before_events(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    run = Scene.create(client, models.script(hold)).start()
    wait(hold.held)
    reader = Reader(server, run)
    with reader.open() as events:
        last = next(event.id for event in events if event.name == "thread.message.delta")
    comments: list[str] = []
    with reader.open(last, comments) as events, ThreadPoolExecutor() as threads:
        reading = threads.submit(list, events)
        await until(lambda: len(comments) > 2)
        hold.release()
        assert reading.result()[-1].name == "done"
