"""Runs that are polled: what they copy, count and keep."""

from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import POLL, Scene, function, text_of, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold


def test_from_queued_to_completed(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    hold = Hold(Answer("Hello there", prompt_tokens=7, completion_tokens=3))
    scene = Scene.create(client, models.script(hold), instructions="Be brief.")
    queued = scene.start()
    model = queued.model
    assert queued.id.startswith("run_")
    assert wire.last.body == {
        "id": queued.id,
        "object": "thread.run",
        "created_at": queued.created_at,
        "thread_id": scene.thread_id,
        "assistant_id": scene.assistant_id,
        "status": "queued",
        "required_action": None,
        "last_error": None,
        "expires_at": queued.created_at + 600,
        "started_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "incomplete_details": None,
        "model": model,
        "instructions": "Be brief.",
        "tools": [],
        "metadata": {},
        "usage": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_prompt_tokens": None,
        "max_completion_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": "auto",
    }
    before = wire.last.body
    wait(hold.held)
    working = client.beta.threads.runs.retrieve(queued.id, thread_id=scene.thread_id)
    assert wire.last.body == before | {"status": "in_progress", "started_at": working.started_at}
    hold.release()
    done = scene.end_of(queued)
    assert wire.last.body == before | {
        "status": "completed",
        "started_at": working.started_at,
        "completed_at": done.completed_at,
        "expires_at": None,
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    [step] = scene.steps(done)
    [_, answer] = scene.messages()
    assert wire.exchanges[-2].body["data"] == [
        {
            "id": step.id,
            "object": "thread.run.step",
            "created_at": step.created_at,
            "assistant_id": scene.assistant_id,
            "thread_id": scene.thread_id,
            "run_id": done.id,
            "type": "message_creation",
            "status": "completed",
            "step_details": {
                "type": "message_creation",
                "message_creation": {"message_id": answer.id},
            },
            "last_error": None,
            "expired_at": None,
            "cancelled_at": None,
            "failed_at": None,
            "completed_at": step.completed_at,
            "metadata": {},
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    ]


def test_create_and_run_poll(client: openai.OpenAI, models: ModelServer) -> None:
    assistant = client.beta.assistants.create(model="none", tools=[function("look")])
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        model=models.script(Answer("Yes.")),
        thread={"messages": [{"role": "user", "content": "Well?"}]},
        instructions="Own.",
        tools=[],
        metadata={"a": "b"},
        temperature=0,
        max_completion_tokens=256,
        poll_interval_ms=POLL,
    )
    assert (run.status, run.tools, run.temperature) == ("completed", [], 0)
    assert (run.instructions, run.metadata, run.max_completion_tokens) == ("Own.", {"a": "b"}, 256)
    messages = client.beta.threads.messages.list(run.thread_id)
    assert [text_of(message) for message in messages] == ["Yes.", "Well?"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"a": "b"}),
        ({"metadata": {}}, {}),
        ({"metadata": None}, {}),
        ({"metadata": {"c": "d"}}, {"c": "d"}),
    ],
)
def test_modifying_a_run(
    client: openai.OpenAI, models: ModelServer, given: Any, expected: dict[str, str]
) -> None:
    scene = Scene.create(client, models.script(Answer("Yes.")))
    run = scene.run(metadata={"a": "b"})
    assert run.metadata == {"a": "b"}
    changed = client.beta.threads.runs.update(run.id, thread_id=run.thread_id, **given)
    assert changed == run.model_copy(update={"metadata": expected})
    assert client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id) == changed


def test_a_run_can_be_modified_while_it_works(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    client.beta.threads.runs.update(run.id, thread_id=run.thread_id, metadata={"a": "b"})
    client.beta.threads.update(scene.thread_id, metadata={"c": "d"})
    hold.release()
    done = scene.end_of(run)
    assert (done.status, done.metadata) == ("completed", {"a": "b"})
    assert client.beta.threads.retrieve(scene.thread_id).metadata == {"c": "d"}


def test_messages_can_be_changed_while_a_run_works(
    client: openai.OpenAI, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    while len(scene.messages()) < 2:
        pass
    [question, answer] = scene.messages()
    messages = client.beta.threads.messages
    messages.update(answer.id, thread_id=scene.thread_id, metadata={"a": "b"})
    messages.delete(question.id, thread_id=scene.thread_id)
    hold.release()
    assert scene.end_of(run).status == "completed"
    [answer] = scene.messages()
    assert (text_of(answer), answer.metadata) == ("Hello there", {"a": "b"})


def test_an_answer_may_be_deleted_while_it_is_written(
    client: openai.OpenAI, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        deltas = iter(stream.text_deltas)
        assert next(deltas) + next(deltas) == "Hello"
        snapshot = stream.current_message_snapshot
        assert snapshot is not None
        client.beta.threads.messages.delete(snapshot.id, thread_id=scene.thread_id)
        hold.release()
        assert "".join(deltas) == " there"
    assert stream.get_final_run().status == "completed"
    assert scene.texts() == ["Hello"]


def test_a_run_outlives_its_assistant(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("Yes."))
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    client.beta.assistants.delete(scene.assistant_id)
    hold.release()
    assert scene.end_of(run).status == "completed"
    with pytest.raises(openai.NotFoundError):
        scene.start()
