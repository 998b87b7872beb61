"""Errors as gRPC callers see them: a status, a message, and google.rpc.ErrorInfo."""

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from assistants.json import json_pb2
from assistants.v1 import (
    assistants_pb2,
    common_pb2,
    events_pb2,
    messages_pb2,
    run_objects_pb2,
    runs_pb2,
    runs_pb2_grpc,
    threads_pb2,
)
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from service.errors import DOMAIN, TABLE, ApiError, Kind
from service.interceptors import Errors
from tests.grpc_face.stubs import Stubs, last_run, whole
from tests.model_server import ModelServer
from tests.script import Answer, Hold

Create = assistants_pb2.CreateAssistantRequest


def info_of(error: BaseException) -> tuple[grpc.StatusCode, str, error_details_pb2.ErrorInfo]:
    """The status, the message, and the one detail."""
    assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    [detail] = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert info.domain == DOMAIN == "assistants.v1"
    return error.code(), status.message, info


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


class Raiser(runs_pb2_grpc.RunsServiceServicer):
    """Raises the error whose kind stands in the request."""

    async def GetRun(self, request: runs_pb2.GetRunRequest, context: Any) -> run_objects_pb2.Run:
        raise ApiError(Kind(request.run_id), "It is so.", "a.b")

    async def StreamRun(
        self, request: runs_pb2.CreateRunRequest, context: Any
    ) -> AsyncGenerator[events_pb2.RunEvent, None]:
        yield events_pb2.RunEvent(event="first")
        raise ApiError(Kind(request.assistant_id), "It is so.", "a.b")


@pytest.fixture
async def raiser() -> AsyncIterator[Any]:
    """A client of a server that fails as it is told."""
    server = grpc.aio.server(interceptors=[Errors()])
    runs_pb2_grpc.add_RunsServiceServicer_to_server(Raiser(), server)
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
                assert event.event == "first"
        for caught in (unary, streamed):
            code, message, info = info_of(caught.value)
            assert (code, message) == (row.grpc, "It is so.")
            assert (info.reason, info.metadata["param"]) == (row.code or kind, "a.b")


async def test_what_is_not_meant_for_callers_stays_in_the_log(raiser: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raiser.GetRun(runs_pb2.GetRunRequest(run_id="not a kind"))
    code, message, info = info_of(caught.value)
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "internal")
    assert message.startswith("The server had an error. It is logged under id ")
    assert "not a kind" not in message


def json(value: Any) -> json_pb2.Value:
    if isinstance(value, dict):
        fields = [json_pb2.Struct.FieldsEntry(key=k, value=json(v)) for k, v in value.items()]
        return json_pb2.Value(struct_value=json_pb2.Struct(fields=fields))
    if isinstance(value, list):
        return json_pb2.Value(list_value=json_pb2.ListValue(values=map(json, value)))
    return json_pb2.Value(**{"string_value" if isinstance(value, str) else "number_value": value})


def create(**fields: Any) -> Callable[[Stubs], Any]:
    return lambda stubs: stubs.assistants.CreateAssistant(Create(**fields))


def page(**fields: Any) -> Callable[[Stubs], Any]:
    request = assistants_pb2.ListAssistantsRequest(**fields)
    return lambda stubs: stubs.assistants.ListAssistants(request)


def say(**fields: Any) -> Callable[[Stubs], Any]:
    return lambda stubs: stubs.messages.CreateMessage(
        messages_pb2.CreateMessageRequest(thread_id=stubs.thread().id, **fields)
    )


def run(**fields: Any) -> Callable[[Stubs], Any]:
    def call(stubs: Stubs) -> Any:
        assistant = stubs.assistant(tools=[common_pb2.Tool(type=fields.pop("tool", "function"),
            function=common_pb2.FunctionDefinition(name="f"))])  # fmt: skip
        request = runs_pb2.CreateRunRequest(
            thread_id=stubs.thread().id, assistant_id=assistant.id, **fields
        )
        return stubs.runs.CreateRun(request)

    return call


def stream_outputs(stubs: Stubs) -> Any:
    request = runs_pb2.SubmitToolOutputsRequest(thread_id="t", run_id="r", stream=True)
    return stubs.runs.SubmitToolOutputs(request)


def stream_thread(stubs: Stubs) -> Any:
    request = runs_pb2.CreateThreadAndRunRequest(assistant_id=stubs.assistant().id, stream=True)
    return stubs.runs.CreateThreadAndRun(request)


def next_of_stream(stubs: Stubs) -> Any:
    thread = stubs.thread()
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id="asst_x")
    return next(stubs.runs.StreamRun(request))


TEXT = messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value="x"))
BOTH = {"content": json("x"), "parts": [TEXT]}

REFUSED: list[tuple[Callable[[Stubs], Any], Kind, str | None]] = [
    (page(after="asst_x"), Kind.invalid_value, "after"),
    (page(limit=0), Kind.integer_below_min, "limit"),
    (page(limit=101), Kind.integer_above_max, "limit"),
    (page(order="up"), Kind.invalid_value, "order"),
    (create(), Kind.missing, "model"),
    (create(model="m", temperature=-1), Kind.decimal_below_min, "temperature"),
    (create(model="m", top_p=1.5), Kind.decimal_above_max, "top_p"),
    (create(model="m", top_p=float("nan")), Kind.invalid_value, "top_p"),
    (create(model="m", name="x" * 257), Kind.string_above_max, "name"),
    (create(model="m\0"), Kind.invalid_value, "model"),
    (create(model="m", tools=[common_pb2.Tool(type="x")]), Kind.invalid_value, "tools[0].type"),
    (create(model="m", tools=[common_pb2.Tool()] * 129), Kind.array_above_max, "tools"),
    (create(model="m", metadata={str(n): "" for n in range(17)}), Kind.too_many_properties,
     "metadata"),
    (create(model="m", response_format=json(5)), Kind.invalid_type, "response_format"),
    (create(model="m", response_format=json({"type": "text", "a": 1})), Kind.unknown_parameter,
     "response_format.a"),
    (say(role="user"), Kind.missing, "content"),
    (say(role="user", **BOTH), Kind.invalid_value, "parts"),
    (say(role="tool", parts=[TEXT]), Kind.invalid_value, "role"),
    (say(role="user", content=json([])), Kind.array_below_min, "content"),
    (say(role="user", content=json([{"type": "image_file", "image_file": {"file_id": "file-x"}}])),
     Kind.not_found, None),
    (run(tool="file_search"), Kind.unavailable_tool, "tools"),
    (run(max_prompt_tokens=255), Kind.integer_below_min, "max_prompt_tokens"),
    (run(stream=True), Kind.invalid_value, "stream"),
    (stream_outputs, Kind.invalid_value, "stream"),
    (stream_thread, Kind.invalid_value, "stream"),
    (next_of_stream, Kind.not_found, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "param"),
    REFUSED,
    ids=[f"{number}-{kind}-{param}" for number, (_, kind, param) in enumerate(REFUSED)],
)
def test_refusals(
    stubs: Stubs, call: Callable[[Stubs], Any], kind: Kind, param: str | None
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(stubs)
    code, message, info = info_of(caught.value)
    assert (code, info.reason) == (TABLE[kind].grpc, TABLE[kind].code or kind), message
    assert info.metadata.get("param") == param


def test_what_a_run_refuses(stubs: Stubs, models: ModelServer) -> None:
    held = Hold(Answer("Hello"))
    assistant = stubs.assistant(models.script(held))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    stream = stubs.runs.StreamRun(request)
    run = next(stream).run
    named: dict[str, Any] = {"thread_id": thread.id, "run_id": run.id}
    outputs = runs_pb2.SubmitToolOutputsRequest(
        **named, tool_outputs=[runs_pb2.ToolOutput(tool_call_id="call_x")]
    )
    refused: list[tuple[Callable[[], Any], Kind, str]] = [
        (lambda: stubs.runs.CreateRun(request), Kind.active_run,
         f"Thread {thread.id} already has an active run {run.id}."),
        (lambda: stubs.messages.CreateMessage(messages_pb2.CreateMessageRequest(
            thread_id=thread.id, role="user", parts=[TEXT])), Kind.active_run,
         f"Can't add messages to {thread.id} while a run {run.id} is active."),
        (lambda: next(stubs.runs.StreamToolOutputs(outputs)), Kind.wrong_status,
         " do not accept tool outputs."),
        (lambda: stubs.threads.GetThread(threads_pb2.GetThreadRequest(thread_id="thread_x")),
         Kind.not_found, "No thread found with id 'thread_x'."),
    ]  # fmt: skip
    for call, kind, expected in refused:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        code, message, info = info_of(caught.value)
        assert (code, info.reason) == (TABLE[kind].grpc, kind)
        assert message.endswith(expected)
    held.release()
    assert last_run(whole(stream)).completed_at
    with pytest.raises(grpc.RpcError, match="Cannot cancel run with status 'completed'"):
        stubs.runs.CancelRun(runs_pb2.CancelRunRequest(**named))
