"""Threads and their messages."""

from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, text_of
from tests.support.rest.wire import Wire
from tests.support.script import Answer


def test_an_empty_thread(client: openai.OpenAI, wire: Wire) -> None:
    created = client.beta.threads.create()
    assert created.id.startswith("thread_")
    assert wire.last.body == {
        "id": created.id,
        "object": "thread",
        "created_at": created.created_at,
        "tool_resources": {},
        "metadata": {},
    }
    assert client.beta.threads.retrieve(created.id) == created
    assert client.beta.threads.messages.list(created.id).data == []
    assert (wire.last.body["first_id"], wire.last.body["last_id"]) == (None, None)
    assert client.beta.threads.runs.list(created.id).data == []


def test_a_thread_with_messages(client: openai.OpenAI) -> None:
    created = client.beta.threads.create(
        messages=[
            {"role": "user", "content": "one", "metadata": {"n": "1"}},
            {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        ],
        metadata={"a": "b"},
        tool_resources={"code_interpreter": {"file_ids": []}},
    )
    assert created.metadata == {"a": "b"}
    assert created.tool_resources is not None
    assert created.tool_resources.code_interpreter is not None
    messages = list(client.beta.threads.messages.list(created.id, order="asc"))
    assert [text_of(message) for message in messages] == ["one", "two"]
    assert [message.role for message in messages] == ["user", "assistant"]
    assert [message.metadata for message in messages] == [{"n": "1"}, {}]


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({}, {}),
        ({"metadata": {}}, {"metadata": {}}),
        ({"metadata": None}, {"metadata": {}}),
        ({"metadata": {"x": "y"}}, {"metadata": {"x": "y"}}),
        ({"tool_resources": {}}, {"tool_resources": {}}),
        ({"tool_resources": None}, {"tool_resources": {}}),
    ],
)
def test_modifying_a_thread(
    client: openai.OpenAI, wire: Wire, given: dict[str, Any], changes: dict[str, Any]
) -> None:
    created = client.beta.threads.create(
        metadata={"a": "b"}, tool_resources={"code_interpreter": {"file_ids": []}}
    )
    before = wire.last.body
    client.beta.threads.update(created.id, **given)
    assert wire.last.body == before | changes
    client.beta.threads.retrieve(created.id)
    assert wire.last.body == before | changes


def test_deleting_a_thread(client: openai.OpenAI, wire: Wire) -> None:
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "one"}])
    client.beta.threads.delete(thread.id)
    assert wire.last.body == {"id": thread.id, "object": "thread.deleted", "deleted": True}
    with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{thread.id}'."):
        client.beta.threads.messages.list(thread.id)


def test_a_message(client: openai.OpenAI, wire: Wire) -> None:
    thread = client.beta.threads.create()
    text = 'Grüße, "Welt"!\r\n\t\\ \u2028 \U0001f600'
    created = client.beta.threads.messages.create(thread.id, role="user", content=text)
    assert created.id.startswith("msg_")
    assert wire.last.body == {
        "id": created.id,
        "object": "thread.message",
        "created_at": created.created_at,
        "thread_id": thread.id,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": created.created_at,
        "incomplete_at": None,
        "role": "user",
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }
    assert client.beta.threads.messages.retrieve(created.id, thread_id=thread.id) == created


def test_parts_of_a_message(client: openai.OpenAI, wire: Wire) -> None:
    thread = client.beta.threads.create()
    client.beta.threads.messages.create(
        thread.id,
        role="user",
        content=[
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
    )
    image = {"url": "https://example.com/a.png", "detail": "auto"}
    assert wire.last.body["content"] == [
        {"type": "text", "text": {"value": "Look:", "annotations": []}},
        {"type": "image_url", "image_url": image},
    ]


@pytest.mark.parametrize(
    ("given", "expected"), [({}, {"a": "b"}), ({"metadata": {}}, {}), ({"metadata": None}, {})]
)
def test_modifying_a_message(
    client: openai.OpenAI, given: dict[str, Any], expected: dict[str, str]
) -> None:
    thread = client.beta.threads.create()
    created = client.beta.threads.messages.create(
        thread.id, role="user", content="one", metadata={"a": "b"}
    )
    changed = client.beta.threads.messages.update(created.id, thread_id=thread.id, **given)
    assert changed == created.model_copy(update={"metadata": expected})
    assert client.beta.threads.messages.retrieve(created.id, thread_id=thread.id) == changed


def test_deleting_a_message(client: openai.OpenAI, wire: Wire) -> None:
    thread = client.beta.threads.create()
    messages = client.beta.threads.messages
    kept = messages.create(thread.id, role="user", content="kept")
    gone = messages.create(thread.id, role="user", content="gone")
    messages.delete(gone.id, thread_id=thread.id)
    assert wire.last.body == {"id": gone.id, "object": "thread.message.deleted", "deleted": True}
    assert messages.list(thread.id).data == [kept]
    with pytest.raises(openai.NotFoundError, match=f"No message found with id '{gone.id}'."):
        messages.retrieve(gone.id, thread_id=thread.id)


def test_a_message_belongs_to_its_thread(client: openai.OpenAI, models: ModelServer) -> None:
    one = Scene.create(client, models.script(Answer("Yes.")))
    other = client.beta.threads.create()
    run = one.run()
    [step] = one.steps(run)
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.messages.retrieve(one.messages()[0].id, thread_id=other.id)
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.runs.retrieve(run.id, thread_id=other.id)
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.runs.steps.retrieve(step.id, run_id=run.id, thread_id=other.id)


def test_the_messages_of_a_run(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Answer("One."), Answer("Two.")))
    first, second = scene.run(), scene.run()
    listed = client.beta.threads.messages.list(scene.thread_id, run_id=second.id)
    assert [text_of(message) for message in listed] == ["Two."]
    listed = client.beta.threads.messages.list(scene.thread_id, run_id=first.id)
    assert [text_of(message) for message in listed] == ["One."]
