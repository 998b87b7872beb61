"""What callers see when the fault is the server's: a defect, and a server that does not answer."""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from tests.exactness.errors import over_grpc, over_rest
from tests.model_server import ModelServer
from tests.stack import Stack
from tests.waiting import until


@pytest.fixture(scope="module")
def defect(model_server: ModelServer) -> Iterator[Stack]:
    """A server that lacks a table: no request makes a whole one fail unexpectedly."""
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        stack.start()
        with closing(sqlite3.connect(stack.directory / "data" / "assistants.db")) as database:
            database.execute("ALTER TABLE assistants RENAME TO hidden")
        yield stack
        assert stack.terminate() == 0, stack.printed()


RUN = {"assistant_id": "asst_x"}
NOT_AVAILABLE = {
    "error": {
        "message": "The server is not available right now. Try again later.",
        "type": "server_error",
        "param": None,
        "code": None,
    }
}


@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("GET /assistants/asst_x", None),
        ("POST /threads/thread_x/runs", RUN),
        ("POST /threads/thread_x/runs", RUN | {"stream": True}),
    ],
)
def test_an_unexpected_error_is_an_id_in_the_log(
    defect: Stack, request_line: str, body: dict[str, Any] | None
) -> None:
    status, answer = over_rest(defect.base_url, request_line, body)
    message = answer["error"]["message"]
    assert (status, answer) == (
        500,
        {"error": {"message": message, "type": "server_error", "param": None, "code": None}},
    )
    with grpc.insecure_channel(defect.grpc_address) as channel:
        refused = over_grpc(channel, request_line, body)
    assert (refused.status, refused.reason) == (grpc.StatusCode.INTERNAL, "internal")
    assert refused.metadata == {}
    for each in (message, refused.message):
        found = re.fullmatch(r"The server had an error\. It is logged under id (\w{16})\.", each)
        assert found
        assert found[1] in defect.printed()
    assert "no such table" in defect.printed()


async def test_a_server_that_does_not_serve_yet(model_server: ModelServer) -> None:
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        data = stack.directory / "data"
        data.mkdir()
        with closing(sqlite3.connect(data / "assistants.db", isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            # The server waits for the database before it serves, and Envoy does not.
            database.execute("BEGIN IMMEDIATE")
            process = stack.spawn()
            await until(lambda: process.poll() is not None or listens(stack))
            for request_line, body in (("GET /threads/thread_x", None), ("POST /threads", {})):
                assert over_rest(stack.base_url, request_line, body) == (503, NOT_AVAILABLE)
            database.execute("ROLLBACK")
        await until(stack.healthy)
        assert stack.terminate() == 0, stack.printed()


def listens(stack: Stack) -> bool:
    """Whether there is an Envoy."""
    host, port = stack.env["ASSISTANTS_HTTP_ADDRESS"].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
