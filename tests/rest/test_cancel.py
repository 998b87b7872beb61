"""Cancelling: in every state, and with the thread."""

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, text_of, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Fail, Hold
from tests.support.sequences import folded

TOOLS = [function("look")]


def test_before_the_model_says_anything(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("Never"))
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    cancelling = client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert cancelling.status == "cancelling"
    wait(hold.disconnected)
    run = scene.end_of(run)
    assert (run.status, run.last_error, run.expires_at) == ("cancelled", None, None)
    assert run.cancelled_at is not None
    assert (scene.steps(run), scene.texts()) == ([], ["Hello"])
    assert run.completed_at is None


def test_in_the_middle_of_an_answer(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        streamed = wire.last
        deltas = iter(stream.text_deltas)
        assert next(deltas) + next(deltas) == "Hello"
        run = stream.current_run
        assert run is not None
        client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
        assert list(deltas) == []
    wait(hold.disconnected)
    assert folded([name for name, _ in streamed.events])[-7:] == [
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    assert stream.get_final_run() == scene.end_of(run)
    [_, message] = scene.messages()
    assert (message.status, text_of(message)) == ("incomplete", "Hello")
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "run_cancelled"
    assert (message.incomplete_at is not None, message.completed_at) == (True, None)
    [step] = scene.steps(run)
    assert (step.status, step.cancelled_at is not None) == ("cancelled", True)


def test_in_the_middle_of_a_call(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Calls(("look", {}), text="Let me"), after="Let me")
    scene = Scene.create(client, models.script(hold), tools=TOOLS)
    run = scene.start()
    wait(hold.held)
    client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert scene.end_of(run).status == "cancelled"
    wait(hold.disconnected)
    hello, *rest = scene.texts()
    assert hello == "Hello"
    # As much of it as had come.
    assert "Let me".startswith("".join(rest))


def test_while_outputs_are_awaited(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Calls(("look", {}))), tools=TOOLS)
    run = scene.run()
    cancelled = client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert (cancelled.status, cancelled.required_action) == ("cancelled", None)
    assert (cancelled.expires_at, cancelled.cancelled_at is not None) == (None, True)
    [step] = scene.steps(run)
    assert step.status == "cancelled"
    assert step.step_details.type == "tool_calls"
    assert len(step.step_details.tool_calls) == 1
    # The thread is free again.
    client.beta.threads.messages.create(scene.thread_id, role="user", content="Well")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_when_it_is_over(client: openai.OpenAI, models: ModelServer, status: str) -> None:
    step = {"completed": Answer("Done."), "failed": Fail(400), "cancelled": Calls(("look", {}))}
    scene = Scene.create(client, models.script(step[status]), tools=TOOLS)
    run = scene.run()
    if status == "cancelled":
        run = client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert run.status == status
    with pytest.raises(openai.BadRequestError) as refused:
        client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert refused.value.body == {
        "message": f"Cannot cancel run with status '{status}'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id) == run


def test_twice(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("Never"))
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel run with status 'cancell"):
        client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)


def test_a_thread_is_closed_while_a_run_is_active(
    client: openai.OpenAI, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there"))
    scene = Scene.create(client, models.script(hold, Answer("Again")))
    run = scene.start()
    wait(hold.held)
    with pytest.raises(openai.BadRequestError) as refused:
        client.beta.threads.messages.create(scene.thread_id, role="user", content="And?")
    assert refused.value.body == {
        "message": f"Can't add messages to {scene.thread_id} while a run {run.id} is active.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            scene.start(
                stream=stream, additional_messages=[{"role": "user", "content": "not kept"}]
            )
        assert refused.value.body == {
            "message": f"Thread {scene.thread_id} already has an active run {run.id}.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    hold.release()
    assert scene.end_of(run).status == "completed"
    assert scene.run().status == "completed"
    assert scene.texts() == ["Hello", "Hello there", "Again"]


def test_deleting_the_thread(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        streamed = wire.last
        deltas = iter(stream.text_deltas)
        assert next(deltas) + next(deltas) == "Hello"
        client.beta.threads.delete(scene.thread_id)
        assert list(deltas) == []
    wait(hold.disconnected)
    assert [name for name, _ in streamed.events][-4:] == [
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    run = stream.get_final_run()
    assert run.status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)


def test_deleting_a_thread_whose_run_awaits_outputs(
    client: openai.OpenAI, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Calls(("look", {}))), tools=TOOLS)
    assert scene.run().status == "requires_action"
    assert client.beta.threads.delete(scene.thread_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.retrieve(scene.thread_id)
