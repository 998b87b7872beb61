"""What callers see when the fault is the server's: a defect, and a server that does not answer."""

import json
import re
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from tests.rest.conftest import connect
from tests.support.compatibility.errors import over_grpc, over_rest
from tests.support.model_server import ModelServer
from tests.support.postgres import TEMPLATE, Postgres
from tests.support.rest.scene import Scene, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS, until


@pytest.fixture(scope="module")
def defect(model_server: ModelServer) -> Iterator[Stack]:
    """A server that lacks a table: no request makes a whole one fail unexpectedly."""
    with serving({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        rename(stack, "assistants", "hidden")
        yield stack


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        yield Path(directory)


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


def test_a_database_that_is_away(models: ModelServer, short_path: Path) -> None:
    postgres = Postgres(short_path)
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_DATABASE_URL": postgres.url(TEMPLATE),
    }
    with serving(settings) as stack:
        assert over_rest(stack.base_url, "POST /threads", {})[0] == 200
        postgres.stop()
        message = "The database cannot be reached. Try again later."
        error = {"message": message, "type": "server_error", "param": None, "code": None}
        # As soon as its health says so, Envoy asks the server no more.
        either = ((503, {"error": error}), (503, NOT_AVAILABLE))
        for request_line in ("POST /threads", "GET /assistants"):
            assert over_rest(stack.base_url, request_line, {}) in either
            with grpc.insecure_channel(stack.grpc_address) as channel:
                refused = over_grpc(channel, request_line, {})
            assert (refused.status, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "unavailable")
            assert refused.message == message


async def test_a_server_that_takes_no_more_calls(models: ModelServer) -> None:
    hold = Hold(Answer("At last."))
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_SHUTDOWN_GRACE": "60",
    }
    with Stack(settings) as stack, connect(stack.start(), Wire()) as client:
        Scene.create(client, models.script(hold)).start()
        wait(hold.held)
        assert stack.process
        # It lets the run end, and Envoy answers meanwhile.
        stack.process.send_signal(signal.SIGTERM)
        await until(lambda: over_rest(stack.base_url, "POST /threads", {})[0] != 200)
        for request_line, body in (("GET /threads/thread_x", None), ("POST /threads", {})):
            assert over_rest(stack.base_url, request_line, body) == (503, NOT_AVAILABLE)
        hold.release()
        assert stack.process.wait(SECONDS) == 0, stack.printed()


def test_calls_that_arrive_as_the_server_stops(models: ModelServer) -> None:
    with Stack({"ASSISTANTS_MODEL_BASE_URL": models.base_url}) as stack:
        process = stack.start().process
        assert process
        address = stack.env["ASSISTANTS_HTTP_ADDRESS"]
        callers = [HTTPConnection(address, timeout=SECONDS) for _ in range(20)]
        for caller in callers:
            caller.request("GET", "/v1/threads/thread_x")
            caller.getresponse().read()
        # The calls reach it while it does nothing, and so does the signal.
        process.send_signal(signal.SIGSTOP)
        for caller in callers:
            caller.request("POST", "/v1/threads", "{}")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        for caller in callers:
            answer = caller.getresponse()
            body = json.loads(answer.read())
            assert answer.status == 200 or (answer.status, body) == (503, NOT_AVAILABLE)
            caller.close()
        assert process.wait(SECONDS) == 0, stack.printed()


def test_a_database_that_is_lost_ends_a_stream(models: ModelServer) -> None:
    hold, wire = Hold(Answer("Hello there"), after="Hello"), Wire()
    # It is noticed after two silences of ten seconds; comments between them are not this test's.
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_KEEP_ALIVE_SECONDS": "60",
    }
    with (
        Stack(settings) as stack,
        connect(stack.start(), wire) as client,
    ):
        scene = Scene.create(client, models.script(hold))
        with (
            pytest.raises(openai.APIError, match="It is logged under id"),
            client.beta.threads.runs.stream(**scene.ids) as stream,
        ):
            deltas = iter(stream.text_deltas)
            assert next(deltas)
            rename(stack, "runs", "hidden")
            hold.release()
            list(deltas)
        assert wire.event_names[-2:] == ["thread.message.delta", "error"]
        wire.check()
        rename(stack, "hidden", "runs")
        assert stack.terminate() == 0, stack.printed()


def rename(stack: Stack, table: str, name: str) -> None:
    """Renames a table of the stack's database."""
    with closing(sqlite3.connect(stack.database)) as database:
        database.execute(f"ALTER TABLE {table} RENAME TO {name}")
