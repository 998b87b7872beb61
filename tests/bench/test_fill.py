"""Threads that the bench fills are like those that the API has made."""

from collections.abc import Iterator

import pytest

from bench.fill import long_threads
from bench.stack import Server
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.script import Answer


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, models: ModelServer) -> Iterator[Server]:
    """A server of the bench."""
    database: Postgres | None = None
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres")
    server = Server(models.base_url, {}, database)
    try:
        yield server.start()
    finally:
        server.delete()


def test_a_long_thread(server: Server, models: ModelServer) -> None:
    _, thread = long_threads(server, [2, 12])
    path = f"/threads/{thread.id}/messages"
    page = server.get(f"{path}?order=asc&limit=100")["data"]
    assert [message["role"] for message in page] == ["user", "assistant"] * 6
    # The first two are those that are copied.
    assert page[2 + 3]["id"] == thread.message(3)
    assert server.get(f"{path}?after={thread.message(3)}&limit=1")["data"] == [page[2 + 2]]
    newest = server.post(path, {"role": "user", "content": "The last."})
    assert server.get(f"{path}?limit=1")["data"] == [newest]
    model = models.script(Answer("Yes."))
    strategy = {"type": "last_messages", "last_messages": 4}
    run = {"assistant_id": server.assistant(model), "truncation_strategy": strategy}
    events = server.stream(f"/threads/{thread.id}/runs", run | {"stream": True})
    assert "event: thread.run.completed" in events
    [request] = models.requests(model)
    roles = [turn["role"] for turn in request["messages"]]
    assert roles == ["assistant", "user", "assistant", "user"]
    assert request["messages"][-1]["content"] == "The last."
