"""Runs and messages that wait behind an active run, where the call asks for it."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.beta.threads import Message, Run

from tests.support.model_server import ModelServer
from tests.support.rest.resuming import Reader
from tests.support.rest.scene import Scene, expect, function, outputs, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Fail, Hold, Step
from tests.support.sequences import PLAIN, folded
from tests.support.stack import Stack

QUEUE = {"when_active": "queue"}
TOOLS = [function("look")]


def say(scene: Scene, text: str, **extra: Any) -> Message:
    """Adds a message of the user."""
    return scene.client.beta.threads.messages.create(
        scene.thread_id, role="user", content=text, extra_body=extra or QUEUE
    )


def prompts(models: ModelServer, model: str) -> list[list[str]]:
    """Returns what the model was asked: the texts of each request."""
    return [
        [str(message["content"]) for message in request["messages"]]
        for request in models.requests(model)
    ]


def active(client: openai.OpenAI, models: ModelServer, hold: Hold, *next_ones: Step) -> Scene:
    """Starts a run whose model holds; `next_ones` is what it answers afterwards."""
    scene = Scene.create(client, models.script(hold, *next_ones), tools=TOOLS)
    scene.start()
    wait(hold.held)
    return scene


def runs_of(scene: Scene) -> list[Run]:
    return list(scene.client.beta.threads.runs.list(scene.thread_id, order="asc"))


def test_runs_come_in_their_order(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("One"))
    scene = active(client, models, hold, Answer("Two"), Answer("Three"), Answer("Four"))
    waiting = [scene.start(extra_body=QUEUE) for _ in range(3)]
    assert [(run.status, run.started_at) for run in waiting] == [("queued", None)] * 3
    assert [run.id for run in runs_of(scene)][1:] == [run.id for run in waiting]
    [asked] = {run.model for run in waiting}
    assert len(models.requests(asked)) == 1
    hold.release()
    assert [scene.end_of(run).status for run in runs_of(scene)] == ["completed"] * 4
    written = ["Hello", "One", "Two", "Three", "Four"]
    assert scene.texts() == written
    assert prompts(models, asked) == [written[:count] for count in range(1, 5)]


def test_messages_are_for_the_next_run(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("It is one."), after="It")
    scene = active(client, models, hold, Answer("It is two."))
    say(scene, "Two?")
    waiting = scene.start(
        additional_messages=[{"role": "user", "content": "Three?"}], extra_body=QUEUE
    )
    say(scene, "Four?")
    hold.release()
    assert scene.end_of(waiting).status == "completed"
    # An answer stands behind what it answers, whenever it was given.
    assert prompts(models, waiting.model) == [
        ["Hello"],
        ["Hello", "It is one.", "Two?", "Three?", "Four?"],
    ]


def test_messages_do_not_disturb_a_run_that_calls(
    client: openai.OpenAI, models: ModelServer
) -> None:
    model = models.script(Calls(("look", {})), Answer("Looked."), Answer("Again."))
    scene = Scene.create(client, model, tools=TOOLS)
    run = scene.run()
    say(scene, "And then?")
    waiting = scene.start(extra_body=QUEUE)
    run = client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "seen")
    )
    assert scene.end_of(run).status == "completed"
    assert scene.end_of(waiting).status == "completed"
    first, second, third = prompts(models, model)
    assert (first, second[-1]) == (["Hello"], "seen")
    assert "And then?" not in second
    assert third == ["Hello", "Looked.", "And then?"]


@pytest.mark.parametrize("value", ["queue", "reject", None])
def test_where_nothing_is_active_there_is_nothing_to_wait_for(
    client: openai.OpenAI, models: ModelServer, value: str | None
) -> None:
    scene = Scene.create(client, models.script(Answer("One")))
    say(scene, "Well?", when_active=value)
    assert scene.run(extra_body={"when_active": value}).status == "completed"
    assert scene.texts() == ["Hello", "Well?", "One"]


@pytest.mark.parametrize("body", [{}, {"when_active": "reject"}, {"when_active": None}], ids=str)
def test_the_default_stays_exact(
    client: openai.OpenAI, models: ModelServer, body: dict[str, Any]
) -> None:
    hold = Hold(Answer("One"))
    scene = active(client, models, hold)
    [run] = runs_of(scene)
    message = f"Can't add messages to {scene.thread_id} while a run {run.id} is active."
    expect(
        client,
        lambda client: client.beta.threads.messages.create(
            scene.thread_id, role="user", content="no", extra_body=body
        ),
        400,
        message,
        None,
        None,
    )
    message = f"Thread {scene.thread_id} already has an active run {run.id}."
    expect(client, lambda _: scene.start(extra_body=body), 400, message, None, None)
    hold.release()
    assert scene.end_of(run).status == "completed"


def test_a_waiting_run_is_cancelled(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("One"))
    scene = active(client, models, hold, Answer("Two"))
    cancelled, last = (scene.start(extra_body=QUEUE) for _ in range(2))
    client.beta.threads.runs.cancel(cancelled.id, thread_id=scene.thread_id)
    cancelled = scene.end_of(cancelled)
    assert (cancelled.status, cancelled.started_at) == ("cancelled", None)
    # That releases nobody: there is an active run.
    first, _, third = runs_of(scene)
    assert (first.status, third.status) == ("in_progress", "queued")
    hold.release()
    assert scene.end_of(last).status == "completed"
    assert scene.texts() == ["Hello", "One", "Two"]


def cancel(scene: Scene) -> None:
    run = runs_of(scene)[0]
    scene.client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)


@pytest.mark.parametrize(
    ("step", "how", "status"),
    [
        (Fail(400), None, "failed"),
        (Answer("One", finish_reason="length"), None, "incomplete"),
        (Answer("One"), cancel, "cancelled"),
    ],
    ids=["failed", "incomplete", "cancelled"],
)
def test_however_the_active_run_ends_the_next_one_comes(
    client: openai.OpenAI,
    models: ModelServer,
    step: Step,
    how: Callable[[Scene], None] | None,
    status: str,
) -> None:
    hold = Hold(step)
    scene = active(client, models, hold, Answer("Two"))
    waiting = scene.start(extra_body=QUEUE)
    if how is None:
        hold.release()
    else:
        how(scene)
    assert scene.end_of(waiting).status == "completed"
    assert scene.end_of(runs_of(scene)[0]).status == status
    assert scene.texts()[-1] == "Two"


def test_a_run_that_awaits_outputs_is_active(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Calls(("look", {})), Answer("Two"))
    scene = Scene.create(client, model, tools=TOOLS)
    assert scene.run().status == "requires_action"
    waiting = scene.start(extra_body=QUEUE)
    assert [run.status for run in runs_of(scene)] == ["requires_action", "queued"]
    cancel(scene)
    assert scene.end_of(waiting).status == "completed"
    assert [run.status for run in runs_of(scene)] == ["cancelled", "completed"]


def test_streams_of_waiting_runs(
    client: openai.OpenAI, server: Stack, models: ModelServer, wire: Wire
) -> None:
    hold = Hold(Answer("One"))
    scene = active(client, models, hold, Answer("Two"))
    with client.beta.threads.runs.stream(**scene.ids, extra_body=QUEUE) as stream:
        streamed = wire.last
        assert next(stream).event == "thread.run.created"
        run = runs_of(scene)[1]
        with Reader(server, run).open(1) as following:
            assert next(following).name == "thread.run.queued"
            hold.release()
            rest = [event.name for event in following]
        stream.until_done()
    assert folded([name for name, _ in streamed.events]) == PLAIN
    assert folded(rest) == PLAIN[2:]
    assert scene.texts() == ["Hello", "One", "Two"]


def test_deleting_the_thread_of_waiting_runs(
    client: openai.OpenAI, models: ModelServer, wire: Wire
) -> None:
    hold = Hold(Answer("One"))
    scene = active(client, models, hold)
    with (
        client.beta.threads.runs.stream(**scene.ids, extra_body=QUEUE) as one,
        client.beta.threads.runs.stream(**scene.ids, extra_body=QUEUE) as other,
    ):
        streams = wire.exchanges[-2:]
        assert {next(one).event, next(other).event} == {"thread.run.created"}
        client.beta.threads.delete(scene.thread_id)
        for stream in (one, other):
            stream.until_done()
            assert stream.get_final_run().status == "cancelled"
    for streamed in streams:
        assert [name for name, _ in streamed.events] == [
            *PLAIN[:2],
            "thread.run.cancelled",
            "done",
        ]
    wait(hold.disconnected)


@pytest.mark.parametrize("value", ["Queue", "later", "1"])
def test_other_values(client: openai.OpenAI, models: ModelServer, value: str) -> None:
    scene = Scene.create(client, models.script())
    message = f"Invalid value: '{value}'. Supported values are: 'reject' and 'queue'."
    for call in (
        lambda _: scene.start(extra_body={"when_active": value}),
        lambda _: say(scene, "no", when_active=value),
    ):
        expect(client, call, 400, message, "when_active", "invalid_value")
    assert scene.texts() == ["Hello"]
    assert runs_of(scene) == []


def test_another_type(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script())
    with pytest.raises(openai.BadRequestError) as refused:
        scene.start(extra_body={"when_active": {"a": 1}})
    assert (refused.value.param, refused.value.code) == ("when_active", "invalid_type")


def test_a_new_thread_has_no_active_run(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script())
    expect(
        client,
        lambda client: client.beta.threads.create_and_run(
            assistant_id=scene.assistant_id, extra_body=QUEUE
        ),
        400,
        "Unknown parameter: 'when_active'.",
        "when_active",
        "unknown_parameter",
    )
