"""Callers that go away: their run goes on, unless they have asked for its end."""

from typing import Any

import openai
import pytest
from openai.types.beta.threads import Run

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs, wait
from tests.support.script import Answer, Calls, Hold

CANCEL = {"cancel_on_disconnect": True}
KEEP: dict[str, Any] = {"cancel_on_disconnect": False}
TOOLS = [function("look")]
WAYS = ["run", "thread and run", "outputs"]


def stream(scene: Scene, way: str, body: dict[str, Any]) -> Any:
    """Makes one of the three calls that stream."""
    runs = scene.client.beta.threads.runs
    if way == "run":
        return runs.create(**scene.ids, stream=True, extra_body=body)
    if way == "thread and run":
        return scene.client.beta.threads.create_and_run(
            assistant_id=scene.assistant_id, stream=True, extra_body=body
        )
    run = scene.run()
    return runs.submit_tool_outputs(
        run.id,
        thread_id=run.thread_id,
        tool_outputs=outputs(run, "1"),
        stream=True,
        extra_body=body,
    )


def left_alone(scene: Scene, hold: Hold, way: str, body: dict[str, Any]) -> Run:
    """Closes a stream while the model holds, and returns its run as it was."""
    with stream(scene, way, body) as events:
        run = next(event.data for event in events if event.event == "thread.run.in_progress")
        wait(hold.held)
    assert isinstance(run, Run)
    return run


def scene_of(client: openai.OpenAI, models: ModelServer, way: str, hold: Hold) -> Scene:
    steps = [Calls(("look", {})), hold] if way == "outputs" else [hold]
    return Scene.create(client, models.script(*steps), tools=TOOLS)


@pytest.mark.parametrize("after", [None, "Hello"], ids=["silent", "begun"])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_ends_with_its_caller(
    client: openai.OpenAI, models: ModelServer, way: str, after: str | None
) -> None:
    hold = Hold(Answer("Hello there"), after=after)
    scene = scene_of(client, models, way, hold)
    run = scene.end_of(left_alone(scene, hold, way, CANCEL))
    assert (run.status, run.last_error) == ("cancelled", None)
    wait(hold.disconnected)


@pytest.mark.parametrize("body", [{}, KEEP], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_goes_on(
    client: openai.OpenAI, models: ModelServer, way: str, body: dict[str, Any]
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = scene_of(client, models, way, hold)
    run = left_alone(scene, hold, way, body)
    hold.release()
    assert scene.end_of(run).status == "completed"


def test_a_run_that_waits_for_another(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("One"))
    scene = Scene.create(client, models.script(hold))
    first = scene.start()
    wait(hold.held)
    with stream(scene, "run", CANCEL | {"when_active": "queue"}) as events:
        run = next(iter(events)).data
    assert scene.end_of(run).status == "cancelled"
    hold.release()
    assert scene.end_of(first).status == "completed"


def test_a_stream_that_was_read_to_its_end(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Calls(("look", {})), Answer("Done.")), tools=TOOLS)
    with stream(scene, "run", CANCEL) as events:
        list(events)
    [run] = client.beta.threads.runs.list(scene.thread_id)
    # It awaits its outputs, as it would have.
    assert run.status == "requires_action"
    runs = client.beta.threads.runs
    given = outputs(run, "1")
    with runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=given, stream=True, extra_body=CANCEL
    ) as events:
        list(events)
    ended = scene.end_of(run)
    assert ended.status == "completed"
    assert ended == runs.retrieve(run.id, thread_id=run.thread_id)


def test_where_there_is_no_stream_it_means_nothing(
    client: openai.OpenAI, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    assert scene.run(extra_body=CANCEL).status == "completed"


def test_a_caller_that_goes_away_after_the_last_delta(
    client: openai.OpenAI, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    with stream(scene, "run", CANCEL) as events:
        run = next(event.data for event in events if event.event == "thread.run.completed")
    assert client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id) == run
