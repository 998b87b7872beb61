"""`update_mask` and `override_mask`: an empty value is a value where a mask says so."""

from typing import Any

import grpc
import pytest
from assistants.v1 import assistants_pb2, messages_pb2, runs_pb2, threads_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from tests.support.grpc.stubs import Stubs, function, user
from tests.support.model_server import ModelServer
from tests.support.script import Answer


def modify(stubs: Stubs, assistant_id: str, mask: list[str], **fields: Any) -> Any:
    request = assistants_pb2.ModifyAssistantRequest(
        assistant_id=assistant_id, update_mask=FieldMask(paths=mask), **fields
    )
    return stubs.assistants.ModifyAssistant(request)


@pytest.fixture
def made(stubs: Stubs) -> assistants_pb2.Assistant:
    return stubs.assistant(
        name="Ann", description="d", metadata={"a": "b"}, tools=[function("f")], temperature=0.5
    )


def test_without_a_mask_fields_without_a_value_stay(
    stubs: Stubs, made: assistants_pb2.Assistant
) -> None:
    assert modify(stubs, made.id, [], tools=[], metadata={}) == made
    assert modify(stubs, made.id, [], name="").name == ""


def test_a_named_field_without_a_value_is_cleared(
    stubs: Stubs, made: assistants_pb2.Assistant
) -> None:
    changed = modify(stubs, made.id, ["tools", "metadata", "name"])
    assert (list(changed.tools), dict(changed.metadata), changed.HasField("name")) == (
        [],
        {},
        False,
    )
    assert (changed.description, changed.temperature) == ("d", 0.5)


def test_fields_that_are_not_named_stay(stubs: Stubs, made: assistants_pb2.Assistant) -> None:
    changed = modify(stubs, made.id, ["description"], name="Eve", description="e")
    assert (changed.name, changed.description) == ("Ann", "e")


def test_what_must_have_a_value_cannot_be_cleared(
    stubs: Stubs, made: assistants_pb2.Assistant
) -> None:
    with pytest.raises(grpc.RpcError, match="Invalid type for 'model'"):
        modify(stubs, made.id, ["model"])


@pytest.mark.parametrize("path", ["assistant_id", "nope", "tools.type"])
def test_a_mask_that_names_no_field(
    stubs: Stubs, made: assistants_pb2.Assistant, path: str
) -> None:
    with pytest.raises(grpc.RpcError, match=f"Invalid 'update_mask': there is no field '{path}'"):
        modify(stubs, made.id, [path])


def test_metadata_of_threads_and_messages(stubs: Stubs) -> None:
    mask = FieldMask(paths=["metadata"])
    thread = stubs.thread("Hi")
    keep = threads_pb2.ModifyThreadRequest(thread_id=thread.id, metadata={"a": "b"})
    stubs.threads.ModifyThread(keep)
    bare = threads_pb2.ModifyThreadRequest(thread_id=thread.id)
    assert dict(stubs.threads.ModifyThread(bare).metadata) == {"a": "b"}
    bare.update_mask.CopyFrom(mask)
    assert dict(stubs.threads.ModifyThread(bare).metadata) == {}

    message = stubs.messages.CreateMessage(
        messages_pb2.CreateMessageRequest(
            thread_id=thread.id, role="user", parts=user("x").parts, metadata={"a": "b"}
        )
    )
    named: dict[str, Any] = {"thread_id": thread.id, "message_id": message.id}
    same = stubs.messages.ModifyMessage(messages_pb2.ModifyMessageRequest(**named))
    assert same == message
    cleared = stubs.messages.ModifyMessage(
        messages_pb2.ModifyMessageRequest(**named, update_mask=mask)
    )
    assert dict(cleared.metadata) == {}


@pytest.mark.parametrize(("mask", "tools"), [([], ["f"]), (["tools"], [])])
def test_a_run_without_its_assistants_tools(
    stubs: Stubs, models: ModelServer, mask: list[str], tools: list[str]
) -> None:
    model = models.script(Answer("Hello"))
    assistant = stubs.assistant(model, tools=[function("f")])
    request = runs_pb2.CreateRunRequest(
        thread_id=stubs.thread("Hi").id,
        assistant_id=assistant.id,
        override_mask=FieldMask(paths=mask),
    )
    first, *_ = stubs.runs.StreamRun(request)
    assert [tool.function.name for tool in first.run.tools] == tools
    [asked] = models.requests(model)
    assert [tool["function"]["name"] for tool in asked.get("tools", [])] == tools


def test_an_override_mask_that_names_no_field(stubs: Stubs) -> None:
    request = runs_pb2.CreateThreadAndRunRequest(
        assistant_id=stubs.assistant().id, override_mask=FieldMask(paths=["thread_id"])
    )
    with pytest.raises(grpc.RpcError, match="Invalid 'override_mask'"):
        stubs.runs.CreateThreadAndRun(request)
