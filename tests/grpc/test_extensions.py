"""Calls that OpenAI's API does not have, typed: the list of threads, and copies of them."""

import json
import uuid
from typing import Any

import grpc
import pytest
from assistants.v1 import messages_pb2, run_objects_pb2, runs_pb2, threads_pb2

from service.errors import TABLE, Kind
from tests.support.compatibility.errors import refusal
from tests.support.grpc.stubs import Stubs, whole
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold

Message = messages_pb2.Message


def _list(stubs: Stubs, **fields: Any) -> threads_pb2.ListThreadsResponse:
    page: threads_pb2.ListThreadsResponse = stubs.threads.ListThreads(
        threads_pb2.ListThreadsRequest(**fields)
    )
    return page


def _copy(stubs: Stubs, thread_id: str, **fields: Any) -> threads_pb2.Thread:
    copy: threads_pb2.Thread = stubs.threads.CopyThread(
        threads_pb2.CopyThreadRequest(thread_id=thread_id, **fields)
    )
    return copy


def _messages(stubs: Stubs, thread_id: str) -> list[Message]:
    request = messages_pb2.ListMessagesRequest(thread_id=thread_id, order="asc")
    return list(stubs.messages.ListMessages(request).data)


def test_threads_by_their_metadata(stubs: Stubs) -> None:
    mark = str(uuid.uuid4())
    made = [
        stubs.threads.CreateThread(
            threads_pb2.CreateThreadRequest(metadata={"mark": mark, 'n"': str(number)})
        )
        for number in range(3)
    ]
    ours = json.dumps({"mark": mark})
    page = _list(stubs, metadata=ours, limit=2)
    assert list(page.data) == made[:0:-1]
    assert (page.first_id, page.last_id, page.has_more) == (made[2].id, made[1].id, True)
    page = _list(stubs, metadata=ours, limit=2, after=page.last_id)
    assert (list(page.data), page.has_more) == (made[:1], False)
    page = _list(stubs, metadata=ours, order="asc", before=made[2].id)
    assert list(page.data) == made[:2]
    page = _list(stubs, metadata=json.dumps({'n"': "1", "mark": mark}))
    assert list(page.data) == [made[1]]
    page = _list(stubs, metadata=json.dumps({"mark": mark, "more": ""}))
    assert (list(page.data), page.HasField("first_id")) == ([], False)
    assert made[2].id in [thread.id for thread in _list(stubs, limit=100).data]


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"metadata": "x"}, Kind.invalid_value, "metadata"),
        ({"metadata": "[]"}, Kind.invalid_type, "metadata"),
        ({"metadata": '{"a": 1}'}, Kind.invalid_type, "metadata"),
        ({"metadata": json.dumps(dict.fromkeys("abcdefghijklmnopq", ""))},
         Kind.too_many_properties, "metadata"),
        ({"limit": 101}, Kind.integer_above_max, "limit"),
        ({"after": "asst_x"}, Kind.invalid_value, "after"),
    ],
)  # fmt: skip
def test_what_the_list_refuses(
    stubs: Stubs, fields: dict[str, Any], kind: Kind, param: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _list(stubs, **fields)
    refused = refusal(caught.value)
    assert (refused.status, refused.reason) == (TABLE[kind].grpc, TABLE[kind].code)
    assert refused.metadata == {"param": param}


def test_a_copy(stubs: Stubs, models: ModelServer) -> None:
    assistant = stubs.assistant(models.script(Answer("Hello")))
    thread = stubs.thread("Hi", "there")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    whole(stubs.runs.StreamRun(request))
    stubs.threads.ModifyThread(
        threads_pb2.ModifyThreadRequest(thread_id=thread.id, metadata={"a": "b"})
    )
    copy = _copy(stubs, thread.id)
    assert (copy.id != thread.id, dict(copy.metadata)) == (True, {"a": "b"})
    before, copies = _messages(stubs, thread.id), _messages(stubs, copy.id)
    for old, new in zip(before, copies, strict=True):
        assert (new.id != old.id, new.thread_id) == (True, copy.id)
        assert not new.HasField("run_id")
        for message in (old, new):
            for field in ("id", "thread_id", "run_id"):
                message.ClearField(field)
        assert new == old
    assert copies[-1].assistant_id == assistant.id


def test_a_copy_up_to_a_message(stubs: Stubs) -> None:
    thread = stubs.thread("one", "two", "three")
    [_, two, _] = _messages(stubs, thread.id)
    copy = _copy(stubs, thread.id, up_to_message_id=two.id)
    assert stubs.texts(copy.id) == [("user", "one"), ("user", "two")]


def test_a_copy_while_a_run_is_active(stubs: Stubs, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    assistant = stubs.assistant(models.script(held))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    stream = stubs.runs.StreamRun(request)
    events = [next(stream)]
    while not events[-1].HasField("message_delta"):
        events.append(next(stream))
    copy = _copy(stubs, thread.id)
    assert stubs.texts(copy.id) == [("user", "Hi")]
    held.release()
    assert whole([*events, *stream])[-2].run.status == run_objects_pb2.Run.completed


def test_what_cannot_be_copied(stubs: Stubs) -> None:
    thread, other = stubs.thread(), stubs.thread("Hi")
    [elsewhere] = _messages(stubs, other.id)
    for thread_id, fields, expected in (
        ("thread_x", {}, "No thread found with id 'thread_x'."),
        (thread.id, {"up_to_message_id": "msg_x"}, "No message found with id 'msg_x'."),
        (
            thread.id,
            {"up_to_message_id": elsewhere.id},
            f"No message found with id '{elsewhere.id}'.",
        ),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            _copy(stubs, thread_id, **fields)
        refused = refusal(caught.value)
        assert (refused.status, refused.reason) == (grpc.StatusCode.NOT_FOUND, "not_found")
        assert refused.message == expected
