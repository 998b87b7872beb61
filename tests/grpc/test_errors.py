"""Errors as gRPC callers see them: a status, a message, and google.rpc.ErrorInfo.

What both transports refuse, tests/compatibility walks.
"""

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from assistants.v1 import messages_pb2, runs_pb2, runs_pb2_grpc
from google.rpc import error_details_pb2

from service.api import typed
from service.calls import Caller
from service.errors import TABLE, ApiError, Kind
from service.runner.events.streams import EventStream
from service.types.events import DONE, Event
from service.types.json_value import from_python
from storage.rows import Run
from tests.support.compatibility.errors import Refusal, refusal
from tests.support.grpc.stubs import SECONDS, Stubs

RUNS = "assistants.v1.RunsService"


@pytest.mark.parametrize("kind", Kind)
def test_every_row_as_a_status(kind: Kind) -> None:
    row = TABLE[kind]
    status = ApiError(kind, "It is so.", "a.b").status()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (row.grpc.value[0], "It is so.")
    assert (info.reason, dict(info.metadata)) == (row.code or kind.value, {"param": "a.b"})
    assert row.code in (None, kind.value)
    bare = error_details_pb2.ErrorInfo()
    ApiError(kind, "It is so.").status().details[0].Unpack(bare)
    assert dict(bare.metadata) == {}


@pytest.mark.parametrize("text", ["r" * 100_000, "€" * 100_000])
def test_an_error_that_quotes_much_is_cut(stubs: Stubs, text: str) -> None:
    request = messages_pb2.CreateMessageRequest(thread_id="thread_x", role=text)
    with pytest.raises(grpc.RpcError) as error:
        stubs.messages.CreateMessage(request)
    refused = refusal(error.value)
    assert (refused.status, refused.metadata) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        {"param": "role"},
    )
    assert refused.message.startswith(f"Invalid value: '{text[:300]}")
    assert refused.message.endswith("…")


class Broken:
    """A stream that has one event and then fails."""

    ended = False

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._events = [Event(DONE, b"[DONE]")]

    async def take(self, seconds: float | None = None) -> list[Event]:
        if not self._events:
            raise self._error
        return [self._events.pop()]

    async def aclose(self) -> None:
        pass


class Raiser(runs_pb2_grpc.RunsServiceServicer):
    """Raises the error whose kind stands in the request."""

    async def GetRun(self, request: runs_pb2.GetRunRequest, caller: Caller) -> Run:
        raise ApiError(Kind(request.run_id), "It is so.", "a.b")

    async def StreamRun(self, request: runs_pb2.CreateRunRequest, caller: Caller) -> EventStream:
        return Broken(ApiError(Kind(request.assistant_id), "It is so.", "a.b"))


@pytest.fixture
async def raiser() -> AsyncIterator[Any]:
    """A client of a server that fails as the test asks."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(typed.handlers({RUNS: Raiser()})))
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{Path(directory) / 'socket'}"
        server.add_insecure_port(address)
        await server.start()
        async with grpc.aio.insecure_channel(address) as channel:
            yield runs_pb2_grpc.RunsServiceStub(channel)
        await server.stop(None)


async def test_every_row_over_the_wire(raiser: Any) -> None:
    for kind, row in TABLE.items():
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await raiser.GetRun(runs_pb2.GetRunRequest(run_id=kind))
        with pytest.raises(grpc.aio.AioRpcError) as streamed:
            async for event in raiser.StreamRun(runs_pb2.CreateRunRequest(assistant_id=kind)):
                assert event.event == DONE
        for caught in (unary, streamed):
            assert refusal(caught.value) == Refusal(
                row.grpc, "It is so.", row.code or kind, {"param": "a.b"}
            )


async def test_what_is_not_meant_for_callers_stays_in_the_log(raiser: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raiser.GetRun(runs_pb2.GetRunRequest(run_id="not a kind"))
    found = refusal(caught.value)
    assert (found.status, found.reason) == (grpc.StatusCode.INTERNAL, "internal")
    assert found.message.startswith("The server had an error. It is logged under id ")
    assert "not a kind" not in found.message


NO_MESSAGE = Refusal(
    grpc.StatusCode.INVALID_ARGUMENT,
    "We could not parse your request: its bytes are not the message of this method.",
    "invalid_type",
    {},
)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05x", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message(channel: grpc.Channel, data: bytes) -> None:
    unary: Any = channel.unary_unary("/assistants.v1.RunsService/GetRun")
    with pytest.raises(grpc.RpcError) as answered:
        unary(data, timeout=SECONDS)
    stream: Any = channel.unary_stream("/assistants.v1.RunsService/StreamRun")
    with pytest.raises(grpc.RpcError) as streamed:
        next(stream(data, timeout=SECONDS))
    assert refusal(answered.value) == refusal(streamed.value) == NO_MESSAGE


def say(stubs: Stubs) -> Any:
    text = messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value="x"))
    request = messages_pb2.CreateMessageRequest(
        thread_id=stubs.thread().id, role="user", content=from_python("x"), parts=[text]
    )
    return stubs.messages.CreateMessage(request)


def run(stubs: Stubs) -> Any:
    thread, assistant = stubs.thread(), stubs.assistant()
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id, stream=True)
    return stubs.runs.CreateRun(request)


def submit(stubs: Stubs) -> Any:
    request = runs_pb2.SubmitToolOutputsRequest(thread_id="t", run_id="r", stream=True)
    return stubs.runs.SubmitToolOutputs(request)


def run_with_thread(stubs: Stubs) -> Any:
    request = runs_pb2.CreateThreadAndRunRequest(assistant_id=stubs.assistant().id, stream=True)
    return stubs.runs.CreateThreadAndRun(request)


ONCE = "Invalid 'stream': this call answers once. Call {} for events."


@pytest.mark.parametrize(
    ("call", "param", "message"),
    [
        (say, "parts", "Invalid 'parts': give either 'content' or 'parts', not both."),
        (run, "stream", ONCE.format("StreamRun")),
        (submit, "stream", ONCE.format("StreamToolOutputs")),
        (run_with_thread, "stream", ONCE.format("StreamThreadAndRun")),
    ],
)
def test_what_only_grpc_callers_can_ask(
    stubs: Stubs, call: Callable[[Stubs], Any], param: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(stubs)
    assert refusal(caught.value) == Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, message, "invalid_value", {"param": param}
    )
