"""The wire finds what it is there to find."""

import json
from typing import Any

import httpx2
import pytest

from tests.support.rest.streams import check_stream
from tests.support.rest.wire import Wire, operations

CREATED = (
    "thread.message.created",
    {"object": "thread.message", "id": "msg_1", "status": "in_progress", "content": []},
)
HEADERS = {"content-type": "application/json", "x-request-id": "1"}


def _delta(text: str, **more: Any) -> tuple[str, Any]:
    part = {"index": 0, "type": "text", "text": {"value": text, **more}}
    return "thread.message.delta", {"id": "msg_1", "delta": {"content": [part]}}


def _completed(text: str) -> tuple[str, Any]:
    content = [{"type": "text", "text": {"value": text}}]
    return "thread.message.completed", {"id": "msg_1", "content": content}


END = [("thread.run.completed", {}), ("done", "[DONE]")]


def test_a_good_stream() -> None:
    deltas = [_delta("a", annotations=[]), _delta("b")]
    check_stream([CREATED, *deltas, _completed("ab"), *END])


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([CREATED], "just stops"),
        ([CREATED, END[1]], "done too early"),
        ([_delta("a", annotations=[]), *END], "not created"),
        ([CREATED, CREATED, *END], "created twice"),
        ([CREATED, _delta("a"), *END], "annotations"),
        ([CREATED, _delta("a", annotations=[]), _completed("ab"), *END], "its deltas"),
    ],
)
def test_broken_streams(events: Any, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_stream(events)


@pytest.mark.parametrize(
    ("status", "headers", "body", "problem"),
    [
        (200, HEADERS, {"object": "list"}, "required property"),
        (404, HEADERS, {"error": {"message": "x"}}, "required property"),
        (200, {"content-type": "application/json"}, {}, "x-request-id"),
        (200, HEADERS | {"content-type": "text/plain"}, {}, "text/plain"),
        (200, HEADERS | {"content-type": "text/event-stream"}, {}, "breaks off"),
    ],
)
def test_broken_answers(status: int, headers: dict[str, str], body: Any, problem: str) -> None:
    wire = Wire()
    request = httpx2.Request("GET", "http://127.0.0.1/v1/assistants")
    exchange = wire.begin(request, httpx2.Response(status, headers=headers))
    exchange.data, exchange.whole = json.dumps(body).encode(), True
    assert exchange.operation == "listAssistants"
    with pytest.raises(AssertionError, match=problem):
        wire.check()


def test_operations_are_distinguished() -> None:
    wire = Wire()
    for path in ("/v1/threads/runs", "/v1/threads/thread_1", "/v1/threads/thread_1/runs"):
        request = httpx2.Request("POST", f"http://127.0.0.1{path}")
        wire.begin(request, httpx2.Response(200))
    names = [exchange.operation for exchange in wire.exchanges]
    assert names == ["createThreadAndRun", "modifyThread", "createRun"]
    assert wire.operations() < set(operations())
