"""Model servers that want to be asked in another form: callers do not notice."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.beta.threads import Run

from tests.support.dialects import DIALECTS, Dialect
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, BreakOff, Calls, Fail, Hold, Step
from tests.support.sequences import AFTER_OUTPUTS, WITH_CALLS, folded
from tests.support.stack import Stack, serving

LOOK = function("look")
LOOK["function"]["strict"] = False

CHOSEN: dict[str, Any] = {
    "temperature": 1,
    "top_p": 1,
    "max_completion_tokens": 1000,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
}
"""Defaults that are chosen all the same, and a limit."""

STRICT = [
    "vLLM: Mistral alternates",
    "LM Studio: alternating without a system",
    "without a reason",
    "everything",
]
"""Dialects whose chat templates are strict."""


def scene_of(client: openai.OpenAI, model: str, *greetings: str) -> Scene:
    """Returns a scene with instructions, a tool, and two messages of the user in a row."""
    history = [("assistant", text) for text in greetings] + [("user", "First"), ("user", "Second")]
    messages: list[Any] = [{"role": role, "content": text} for role, text in history]
    assistant = client.beta.assistants.create(model=model, instructions="Be brief.", tools=[LOOK])
    return Scene(client, assistant.id, client.beta.threads.create(messages=messages).id)


def started(client: openai.OpenAI, scene: Scene, streaming: bool) -> Run:
    if not streaming:
        return scene.run(**CHOSEN)
    with client.beta.threads.runs.stream(**scene.ids, **CHOSEN) as stream:
        stream.until_done()
    run: Run = stream.get_final_run()
    return run


def given(client: openai.OpenAI, scene: Scene, run: Run, streaming: bool) -> Run:
    ids: Any = {"run_id": run.id, "thread_id": run.thread_id, "tool_outputs": outputs(run, "seen")}
    if not streaming:
        return scene.end_of(client.beta.threads.runs.submit_tool_outputs(**ids))
    with client.beta.threads.runs.submit_tool_outputs_stream(**ids) as stream:
        stream.until_done()
    ended: Run = stream.get_final_run()
    return ended


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "polling"])
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect(
    client: openai.OpenAI, models: ModelServer, wire: Wire, dialect: Dialect, streaming: bool
) -> None:
    model = models.script(Calls(("look", {})), Answer("Seen."), refuses=dialect.refuses)
    scene = scene_of(client, model, "I am here.")
    run = started(client, scene, streaming)
    assert run.status == "requires_action", run.last_error
    if streaming:
        assert folded(wire.event_names) == WITH_CALLS
    run = given(client, scene, run, streaming)
    assert run.status == "completed", run.last_error
    if streaming:
        assert folded(wire.event_names) == AFTER_OUTPUTS
    assert scene.texts() == ["I am here.", "First", "Second", "Seen."]
    requests = models.requests(model)
    refused = [request for request in requests if dialect.refuses(request)]
    assert (len(refused), len(requests)) == (dialect.refusals, dialect.refusals + 2)


@pytest.mark.parametrize("again", [True, False], ids=["asked again", "not asked again"])
@pytest.mark.parametrize(
    "failure", [Fail(503, "Overloaded."), BreakOff("Half")], ids=["nothing", "half an answer"]
)
@pytest.mark.parametrize("name", STRICT)
def test_a_thread_goes_on_after_a_run_that_failed(
    client: openai.OpenAI, models: ModelServer, name: str, failure: Step, again: bool
) -> None:
    model = models.script(
        failure, Answer("Whole."), Answer("More."), refuses=DIALECTS[name].refuses
    )
    scene = Scene.create(client, model, instructions="Be brief.")
    assert scene.run().status == "failed"
    if again:
        client.beta.threads.messages.create(scene.thread_id, role="user", content="Again?")
    run = scene.run()
    assert run.status == "completed", run.last_error
    assert scene.texts()[-1] == "Whole."
    # And from then on.
    client.beta.threads.messages.create(scene.thread_id, role="user", content="And?")
    assert scene.run().status == "completed"


@pytest.mark.parametrize("name", STRICT)
def test_messages_in_a_row(client: openai.OpenAI, models: ModelServer, name: str) -> None:
    model = models.script(Answer("Yes."), refuses=DIALECTS[name].refuses)
    assert scene_of(client, model).run().status == "completed"
    turns = models.requests(model)[-1]["messages"]
    assert turns[-1]["role"] == "user"
    assert turns[-1]["content"].endswith("First\n\nSecond")


def test_a_limit_that_the_server_ignores(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Long", completion_tokens=301))
    scene = Scene.create(client, model)
    run = scene.run(max_completion_tokens=300)
    assert run.status == "incomplete"
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_completion_tokens"
    assert run.usage is not None
    assert run.usage.completion_tokens == 301
    assert scene.texts() == ["Hello", "Long"]


def test_an_answer_that_does_not_end(client: openai.OpenAI, models: ModelServer) -> None:
    endless = Hold(Answer("four" * 1000), after="four" * 500)
    scene = Scene.create(client, models.script(endless))
    run = scene.run(max_completion_tokens=300)
    assert run.status == "incomplete"
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_completion_tokens"
    assert scene.texts() == ["Hello", "four" * 451]
    wait(endless.disconnected)


@pytest.fixture(scope="module")
def set_up(model_server: ModelServer) -> Iterator[Stack]:
    """A server with a setting for its model server."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_QUIRKS": "no_stream_options, max_tokens,no_system, no_think",
    }
    with serving(settings) as stack:
        yield stack


def test_quirks_that_are_set(set_up: Stack, models: ModelServer) -> None:
    model = models.script(Answer("<think>So.</think>"))
    with openai.OpenAI(base_url=set_up.base_url, api_key="test", max_retries=0) as client:
        scene = Scene.create(client, model, instructions="Be brief.")
        assert scene.run(max_completion_tokens=300).status == "completed"
        assert scene.texts() == ["Hello", "<think>So.</think>"]
    [request] = models.requests(model)
    assert request == {
        "model": model,
        "messages": [{"role": "user", "content": "Be brief.\n\nHello"}],
        "max_tokens": 300,
        "stream": True,
    }
