"""Envoy's access log: a line of JSON for each request, with the id that the server logs, too."""

import json
from typing import Any

import grpc
import pytest
from assistants.v1 import threads_pb2

from service.calls import REQUEST_ID
from tests.serve.test_calls import get, logged
from tests.support.grpc.client import connect
from tests.support.model_server import ModelServer
from tests.support.secret import new_secret
from tests.support.stack import Stack, serving
from tests.support.waiting import until

KEYS = {
    "time",
    "client",
    "method",
    "path",
    "protocol",
    "status",
    "grpc_status",
    "duration_ms",
    "bytes_received",
    "bytes_sent",
    "request_id",
    "user_agent",
    "upstream",
    "flags",
}


def lines(stack: Stack, request_id: str) -> list[dict[str, Any]]:
    """Returns the lines of a request."""
    found = [json.loads(line) for line in stack.printed().splitlines() if line.startswith("{")]
    return [line for line in found if line["request_id"] == request_id]


async def test_one_line_for_each_request(model_server: ModelServer) -> None:
    key, query = new_secret(), new_secret()
    env = {"ASSISTANTS_MODEL_BASE_URL": model_server.base_url, "ASSISTANTS_LOG_LEVEL": "debug"}
    with serving(env) as stack:
        sent = {"user-agent": "tester/1", "authorization": f"Bearer {key}", "api-key": key}
        status, answered = get(
            stack, f"/threads/thread_x?key={query}", **sent, **{REQUEST_ID: "mine"}
        )
        assert (status, answered) == (400, "mine")
        status, answered = get(stack, "/threads/thread_x", **sent, **{REQUEST_ID: "found"})
        assert (status, answered) == (404, "found")
        with connect(stack.env["ASSISTANTS_HTTP_ADDRESS"]) as stubs:
            call = stubs.threads.ListThreads.with_call
            _, ended = call(threads_pb2.ListThreadsRequest(), metadata=((REQUEST_ID, "over-grpc"),))
            assert dict(ended.initial_metadata())[REQUEST_ID] == "over-grpc"
            with pytest.raises(grpc.RpcError):
                request = threads_pb2.GetThreadRequest(thread_id="x")
                stubs.threads.GetThread(request, metadata=((REQUEST_ID, "missed"),))
        for each in ("mine", "found", "over-grpc", "missed"):
            await until(lambda asked=each: lines(stack, asked))  # type: ignore[misc]
        [refused], [missing], [called], [missed] = (
            lines(stack, each) for each in ("mine", "found", "over-grpc", "missed")
        )
        assert refused.keys() == missing.keys() == called.keys() == KEYS
        assert (refused["method"], refused["path"]) == ("GET", "/v1/threads/thread_x")
        assert (refused["status"], refused["user_agent"]) == (400, "tester/1")
        assert (missing["status"], missing["upstream"]) == (404, "edge")
        assert (missing["client"], missing["bytes_received"]) == ("127.0.0.1", 0)
        assert missing["bytes_sent"] > 0 <= missing["duration_ms"]
        assert called["path"] == "/assistants.v1.ThreadsService/ListThreads"
        assert (called["status"], called["upstream"]) == (200, "grpc")
        statuses = [line["grpc_status"] for line in (refused, missing, called, missed)]
        assert statuses == ["", "", "0", "5"]
        assert [line["request_id"] for line in logged(stack, "GetThread")] == ["found", "missed"]
        assert [line["request_id"] for line in logged(stack, "ListThreads")] == ["over-grpc"]
        # Health is asked for again and again.
        assert "/healthz" not in stack.printed()


async def test_none(model_server: ModelServer) -> None:
    env = {"ASSISTANTS_MODEL_BASE_URL": model_server.base_url, "ASSISTANTS_ACCESS_LOG": "false"}
    with Stack(env) as stack:
        stack.start()
        assert get(stack, "/threads/thread_x")[0] == 404
        # What Envoy has, it writes when it ends.
        assert stack.terminate() == 0, stack.printed()
        assert "user_agent" not in stack.printed()


def test_grpc_callers_get_the_id_back(server: Stack) -> None:
    """Also one that they have not given, and with errors."""
    with connect(server.grpc_address) as stubs:
        call = stubs.threads.ListThreads.with_call
        _, ended = call(threads_pb2.ListThreadsRequest(), metadata=((REQUEST_ID, "mine"),))
        assert dict(ended.trailing_metadata()) == {REQUEST_ID: "mine"}
        _, ended = call(threads_pb2.ListThreadsRequest())
        assert len(dict(ended.trailing_metadata())[REQUEST_ID]) == 32
        with pytest.raises(grpc.RpcError) as refused:
            stubs.threads.GetThread(
                threads_pb2.GetThreadRequest(thread_id="x"), metadata=((REQUEST_ID, "mine"),)
            )
        assert isinstance(refused.value, grpc.Call)
        assert dict(refused.value.trailing_metadata())[REQUEST_ID] == "mine"
