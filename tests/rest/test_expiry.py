"""Runs whose time is up, on a server that gives them two seconds."""

from collections.abc import Iterator

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs, text_of, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import folded
from tests.support.stack import Stack, serving


@pytest.fixture(scope="module")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_RUN_LIFETIME": "2",
    }
    with serving(settings) as stack:
        yield stack


def test_a_model_that_hangs(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        assert "".join(stream.text_deltas) == "Hello"
    wait(hold.disconnected)
    assert folded(wire.event_names)[-5:] == [
        "thread.message.delta",
        "thread.message.incomplete",
        "thread.run.step.expired",
        "thread.run.expired",
        "done",
    ]
    run = stream.get_final_run()
    assert (run.status, run.expires_at, run.last_error) == ("expired", None, None)
    assert run == client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    [_, message] = scene.messages()
    assert (message.status, text_of(message)) == ("incomplete", "Hello")
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "run_expired"
    [step] = scene.steps(run)
    assert (step.status, step.expired_at is not None) == ("expired", True)


def test_outputs_that_never_come(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Calls(("look", {}))), tools=[function("look")])
    waiting = scene.run()
    assert waiting.status == "requires_action"
    given = outputs(waiting, "late")
    # The client's poll takes this state for an end.
    run = waiting
    while run.status == "requires_action":
        run = client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert (run.status, run.expires_at, run.required_action) == ("expired", None, None)
    [step] = scene.steps(run)
    assert (step.status, step.expired_at is not None) == ("expired", True)
    with pytest.raises(openai.BadRequestError, match='Runs in status "expired" do not accept'):
        client.beta.threads.runs.submit_tool_outputs(
            run.id,
            thread_id=run.thread_id,
            tool_outputs=given,
        )
    client.beta.threads.messages.create(scene.thread_id, role="user", content="And now?")


def test_the_time_of_a_run_that_waits_begins_with_its_release(
    client: openai.OpenAI, models: ModelServer
) -> None:
    hold = Hold(Answer("Never"))
    scene = Scene.create(client, models.script(hold, Answer("Two"), Answer("Three")))
    queue = {"when_active": "queue"}
    active = scene.start()
    waiting = [scene.start(extra_body=queue) for _ in range(2)]
    assert scene.end_of(active).status == "expired"
    wait(hold.disconnected)
    ended = [scene.end_of(run) for run in waiting]
    assert [run.status for run in ended] == ["completed"] * 2
    assert scene.texts() == ["Hello", "Two", "Three"]


def test_a_run_that_waits_has_as_long_as_any(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(
        client, models.script(*[Calls(("look", {}))] * 2), tools=[function("look")]
    )
    active = scene.run()
    waiting = scene.start(extra_body={"when_active": "queue"})
    pending = scene.end_of(waiting)
    # Only now: the first one had all of its time, and this one has it still.
    assert pending.status == "requires_action"
    assert pending.started_at is not None and pending.expires_at is not None
    assert pending.expires_at - pending.started_at in (1, 2)
    assert client.beta.threads.runs.retrieve(active.id, thread_id=active.thread_id).status == (
        "expired"
    )
    run = pending
    while run.status == "requires_action":
        run = client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert run.status == "expired"
