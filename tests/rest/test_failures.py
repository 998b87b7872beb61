"""Runs that end otherwise than well, and models that answer otherwise than with text."""

import openai
import pytest
from openai.types.beta.threads import Run

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs, text_of
from tests.support.rest.wire import Wire
from tests.support.script import Answer, BreakOff, Calls, Fail, Refusal, Step
from tests.support.sequences import PLAIN, folded

FAILED = [
    *PLAIN[:7],
    "thread.message.delta",
    "thread.message.incomplete",
    "thread.run.step.failed",
    "thread.run.failed",
    "done",
]


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        (Fail(429, "Slow down."), "rate_limit_exceeded", "Rate limit reached. Slow down."),
        (
            Fail(429, "Rate limit reached for m."),
            "rate_limit_exceeded",
            "Rate limit reached for m.",
        ),
        (
            Fail(500, "Slow down."),
            "server_error",
            "Sorry, something went wrong. The model server said: Slow down.",
        ),
        (
            Fail(500, "<html>"),
            "server_error",
            "Sorry, something went wrong. The model server answered 500.",
        ),
        (
            Fail(401, "Incorrect key."),
            "server_error",
            "Sorry, something went wrong. The model server refuses this server's API key.",
        ),
        (Fail(400, "Slow down."), "invalid_prompt", "Slow down."),
    ],
)
def test_a_model_that_fails(
    client: openai.OpenAI, models: ModelServer, wire: Wire, step: Step, code: str, message: str
) -> None:
    model = models.script(step)
    scene = Scene.create(client, model)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    assert wire.event_names == [*PLAIN[:3], "thread.run.failed", "done"]
    assert len(models.requests(model)) == 1
    run = stream.get_final_run()
    assert run == client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert _last_error(run) == (code, message)
    assert (run.status, run.failed_at is not None, run.completed_at) == ("failed", True, None)
    assert (run.expires_at, scene.steps(run), scene.texts()) == (None, [], ["Hello"])
    assert run.usage is not None


@pytest.mark.parametrize("politely", [False, True])
def test_a_model_that_breaks_off(
    client: openai.OpenAI, models: ModelServer, wire: Wire, politely: bool
) -> None:
    scene = Scene.create(client, models.script(BreakOff("Half an ans", politely=politely)))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        assert "".join(stream.text_deltas) == "Half an ans"
    assert folded(wire.event_names) == FAILED
    run = stream.get_final_run()
    assert (run.status, _last_error(run)[0]) == ("failed", "server_error")
    [_, message] = scene.messages()
    assert (message.status, text_of(message)) == ("incomplete", "Half an ans")
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "run_failed"
    [step] = scene.steps(run)
    assert (step.status, step.failed_at is not None) == ("failed", True)
    assert step.last_error is not None
    assert (step.last_error.code, step.last_error.message) == _last_error(run)


def test_the_thread_goes_on_after_a_failure(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(BreakOff("Half"), Answer("Whole."))
    scene = Scene.create(client, model)
    assert scene.run().status == "failed"
    assert scene.run().status == "completed"
    assert scene.texts() == ["Hello", "Half", "Whole."]
    assert [message["content"] for message in models.requests(model)[1]["messages"]] == [
        "Hello",
        "Half",
    ]


def test_the_limit_of_tokens(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    scene = Scene.create(client, models.script(Answer("Cut sh", finish_reason="length")))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    assert folded(wire.event_names)[-5:] == [
        "thread.message.delta",
        "thread.message.incomplete",
        "thread.run.step.completed",
        "thread.run.incomplete",
        "done",
    ]
    run = stream.get_final_run()
    assert (run.status, run.completed_at, run.last_error) == ("incomplete", None, None)
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_completion_tokens"
    assert run.usage is not None
    assert run.usage.total_tokens == 25
    [_, message] = scene.messages()
    assert (message.status, text_of(message)) == ("incomplete", "Cut sh")
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "max_tokens"


def test_a_call_that_is_cut_short(client: openai.OpenAI, models: ModelServer) -> None:
    cut = Calls(("look", '{"ci'), finish_reason="length")
    scene = Scene.create(client, models.script(cut), tools=[function("look")])
    run = scene.run()
    assert (run.status, run.required_action) == ("incomplete", None)
    [step] = scene.steps(run)
    assert (step.type, step.status) == ("tool_calls", "completed")


def test_a_budget_that_calls_have_used_up(client: openai.OpenAI, models: ModelServer) -> None:
    calls = Calls(("look", {}))
    calls.completion_tokens = 256
    model = models.script(calls)
    scene = Scene.create(client, model, tools=[function("look")])
    run = scene.run(max_completion_tokens=256)
    client.beta.threads.runs.submit_tool_outputs(
        run.id,
        thread_id=run.thread_id,
        tool_outputs=outputs(run, "seen"),
    )
    run = scene.end_of(run)
    assert run.status == "incomplete"
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_completion_tokens"
    assert len(models.requests(model)) == 1


def test_a_prompt_that_is_too_long(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Short enough."))
    scene = Scene.create(client, model, "word " * 1000)
    run = scene.run(max_prompt_tokens=256)
    assert run.status == "incomplete"
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_prompt_tokens"
    assert models.requests(model) == []
    assert scene.run().status == "completed"


def test_the_content_filter(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Answer("Some", finish_reason="content_filter")))
    run = scene.run()
    assert (run.status, _last_error(run)[0]) == ("failed", "server_error")
    [_, message] = scene.messages()
    assert (message.status, text_of(message)) == ("incomplete", "Some")
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "content_filter"


def test_a_refusal(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    model = models.script(Refusal("I can't do that."), Answer("Fine."))
    scene = Scene.create(client, model)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    assert folded(wire.event_names) == PLAIN
    [_, message] = scene.messages()
    assert message.status == "completed"
    [part] = message.content
    assert part.type == "refusal"
    assert part.refusal == "I can't do that."
    assert stream.get_final_messages() == [message]
    scene.run()
    assert models.requests(model)[1]["messages"][1] == {
        "role": "assistant",
        "content": "I can't do that.",
    }


def test_an_empty_answer(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    scene = Scene.create(client, models.script(Answer("")))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        assert "".join(stream.text_deltas) == ""
    assert folded(wire.event_names) == PLAIN
    [_, message] = scene.messages()
    assert (message.status, text_of(message)) == ("completed", "")


def test_an_answer_of_a_model_that_keeps_its_usage_to_itself(
    client: openai.OpenAI, models: ModelServer
) -> None:
    # As a model that was not asked: nothing is reported, the run's sum is 0.
    scene = Scene.create(client, models.script(BreakOff("Half")))
    run = scene.run()
    assert run.usage is not None
    assert run.usage.total_tokens == 0


def _last_error(run: Run) -> tuple[str, str]:
    assert run.last_error is not None
    return run.last_error.code, run.last_error.message
