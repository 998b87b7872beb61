"""Function calls: runs that wait for outputs, and what happens when they come."""

import json
from typing import Any

import openai
import pytest
from openai import AssistantEventHandler
from openai.types.beta.threads.runs import FunctionToolCall, ToolCall, ToolCallDelta

from tests.support.model_server import ModelServer
from tests.support.rest.scene import POLL, Scene, function, outputs
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls
from tests.support.sequences import AFTER_OUTPUTS, WITH_CALLS, folded

PARIS = ("get_weather", {"city": "Paris", "unit": "c"})
ROME = ("get_time", '{"city": "Rome"}')
TOOLS = [function("get_weather"), function("get_time")]


class Handler(AssistantEventHandler):
    """Keeps what the client's helper makes of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[str] = []
        self.deltas: list[str] = []
        self.done: list[tuple[str, str]] = []

    def on_tool_call_created(self, tool_call: ToolCall) -> None:
        assert isinstance(tool_call, FunctionToolCall)
        assert tool_call.function.arguments == ""
        self.created.append(tool_call.function.name)

    def on_tool_call_delta(self, delta: ToolCallDelta, snapshot: ToolCall) -> None:
        assert delta.type == "function"
        assert delta.function is not None
        self.deltas.append(delta.function.arguments or "")

    def on_tool_call_done(self, tool_call: ToolCall) -> None:
        assert isinstance(tool_call, FunctionToolCall)
        self.done.append((tool_call.function.name, tool_call.function.arguments))


def test_one_call(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Calls(PARIS), Answer("It is sunny."))
    scene = Scene.create(client, model, "Weather?", tools=TOOLS)
    run = client.beta.threads.runs.create_and_poll(**scene.ids, poll_interval_ms=POLL)
    assert (run.status, run.usage, run.completed_at) == ("requires_action", None, None)
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert call.function.arguments == '{"city": "Paris", "unit": "c"}'
    assert call.id.startswith("call_")
    assert client.beta.threads.runs.list(scene.thread_id).data == [run]

    [step] = scene.steps(run)
    assert (step.type, step.status, step.completed_at) == ("tool_calls", "in_progress", None)
    assert step.step_details.type == "tool_calls"
    [pending] = step.step_details.tool_calls
    assert pending.type == "function"
    assert (pending.id, pending.function.output) == (call.id, None)

    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": call.id, "output": "sunny"}],
        poll_interval_ms=POLL,
    )
    assert (run.status, run.required_action) == ("completed", None)
    assert scene.texts() == ["Weather?", "It is sunny."]
    [step, answer] = scene.steps(run)
    assert (step.status, answer.type, answer.status) == (
        "completed",
        "message_creation",
        "completed",
    )
    assert step.step_details.type == "tool_calls"
    [filled] = step.step_details.tool_calls
    assert filled.type == "function"
    assert (filled.id, filled.function.output) == (call.id, "sunny")

    first, second = models.requests(model)
    assert first["messages"] == [{"role": "user", "content": "Weather?"}]
    function_call = {"name": "get_weather", "arguments": '{"city": "Paris", "unit": "c"}'}
    # The id that the model server gave.
    called = {"id": "call_0", "type": "function", "function": function_call}
    output = {"tool_call_id": "call_0", "name": "get_weather", "content": "sunny"}
    assert second["messages"] == [
        *first["messages"],
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", **output},
    ]


def test_parallel_calls_on_a_stream(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    model = models.script(Calls(PARIS, ROME), Answer("Sunny, noon."))
    scene = Scene.create(client, model, tools=TOOLS)
    with client.beta.threads.runs.stream(**scene.ids, event_handler=Handler()) as stream:
        stream.until_done()
    assert folded(wire.event_names) == WITH_CALLS
    assert stream.created == ["get_weather", "get_time"]
    assert stream.done == [("get_weather", '{"city": "Paris", "unit": "c"}'), ROME]
    assert "".join(stream.deltas) == '{"city": "Paris", "unit": "c"}{"city": "Rome"}'
    run = stream.get_final_run()
    assert run == client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)

    with client.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id,
        thread_id=run.thread_id,
        # In any order.
        tool_outputs=_given(reversed(outputs(run, "sunny", "noon"))),
    ) as answer:
        assert "".join(answer.text_deltas) == "Sunny, noon."
    assert folded(wire.event_names) == AFTER_OUTPUTS
    completed = wire.last.events[0][1]
    calls = completed["step_details"]["tool_calls"]
    assert [call["function"]["output"] for call in calls] == ["sunny", "noon"]
    contents = [message["content"] for message in models.requests(model)[1]["messages"][1:]]
    assert contents == [None, "sunny", "noon"]


def _given(outputs: Any) -> Any:
    return list(outputs)


def test_text_before_calls(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    model = models.script(Calls(PARIS, text="Let me look."), Answer("Sunny."))
    scene = Scene.create(client, model, tools=TOOLS)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        assert "".join(stream.text_deltas) == "Let me look."
    run = stream.get_final_run()
    assert run.status == "requires_action"
    types = [data["type"] for name, data in wire.last.events if name == "thread.run.step.created"]
    assert types == ["message_creation", "tool_calls"]
    steps = [(step.type, step.status) for step in scene.steps(run)]
    assert steps == [("message_creation", "completed"), ("tool_calls", "in_progress")]
    assert scene.messages()[1].status == "completed"

    run = _submit(scene, run, "sunny")
    assert run.status == "completed"
    assert scene.texts() == ["Hello", "Let me look.", "Sunny."]
    [_, spoken, output] = models.requests(model)[1]["messages"]
    assert (spoken["role"], spoken["content"]) == ("assistant", "Let me look.")
    assert [call["function"]["name"] for call in spoken["tool_calls"]] == ["get_weather"]
    assert output["content"] == "sunny"


def test_one_call_after_another(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Calls(PARIS), Calls(ROME), Answer("Both."))
    scene = Scene.create(client, model, tools=TOOLS, metadata={})
    run = _submit(scene, scene.run(tool_choice="required"), "sunny")
    assert run.status == "requires_action"
    started = run.started_at
    run = _submit(scene, run, "noon")
    assert (run.status, scene.texts()) == ("completed", ["Hello", "Both."])
    assert started is not None
    assert run.started_at is not None
    assert run.started_at >= started
    roles = [message["role"] for message in models.requests(model)[2]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]
    # Forced again, the model could never come to an end.
    assert [request.get("tool_choice") for request in models.requests(model)] == [
        "required",
        None,
        None,
    ]
    assert run.usage is not None
    assert run.usage.model_dump() == {
        "prompt_tokens": 60,
        "completion_tokens": 15,
        "total_tokens": 75,
    }
    assert [step.usage and step.usage.total_tokens for step in scene.steps(run)] == [25, 25, 25]


def test_wrong_sets_of_outputs(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Calls(PARIS, ROME), Answer("Both."))
    scene = Scene.create(client, model, tools=TOOLS)
    run = scene.run()
    first, second = outputs(run, "sunny", "noon")
    unknown = {"tool_call_id": "call_x", "output": ""}
    expected = [first["tool_call_id"], second["tool_call_id"]]
    for wrong in ([first], [first, unknown], [first, second, unknown], [first, first, second]):
        got = [each["tool_call_id"] for each in wrong]
        with pytest.raises(openai.BadRequestError) as refused:
            _submit_raw(scene, run.id, wrong)
        message = f"Expected tool outputs for call_ids {expected}, got {got}"
        assert refused.value.body == _invalid(message)
    with pytest.raises(openai.BadRequestError) as refused:
        _submit_raw(scene, run.id, [])
    assert (refused.value.param, refused.value.code) == (
        "tool_outputs",
        "missing_required_parameter",
    )
    assert _submit(scene, run, "sunny", "noon").status == "completed"


def test_outputs_in_the_wrong_state(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Answer("Done.")), tools=TOOLS)
    run = scene.run()
    message = 'Runs in status "completed" do not accept tool outputs.'
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            _submit_raw(scene, run.id, [{"tool_call_id": "call_x", "output": ""}], stream=stream)
        assert refused.value.body == _invalid(message)


def test_broken_arguments_are_the_callers_to_judge(
    client: openai.OpenAI, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Calls(("get_time", '{"city": '))), tools=TOOLS)
    run = scene.run()
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert call.function.arguments == '{"city": '
    client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)


@pytest.mark.parametrize("arguments", ["", " "])
def test_a_call_without_arguments(
    client: openai.OpenAI, models: ModelServer, wire: Wire, arguments: str
) -> None:
    model = models.script(Calls(("get_time", arguments), ROME), Answer("Noon."))
    scene = Scene.create(client, model, tools=TOOLS)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    run = stream.get_final_run()
    deltas = [
        call["function"]["arguments"]
        for name, data in wire.last.events
        if name == "thread.run.step.delta"
        for call in data["delta"]["step_details"]["tool_calls"]
        if call["index"] == 0
    ]
    # What came as an empty delta has the name, and an object follows.
    assert deltas == ["", *filter(None, [arguments]), "{}"]
    assert run.required_action is not None
    [call, _] = run.required_action.submit_tool_outputs.tool_calls
    given = call.function.arguments
    assert json.loads(given) == {}
    [step] = scene.steps(run)
    assert step.step_details.type == "tool_calls"
    pending = step.step_details.tool_calls[0]
    assert pending.type == "function"
    assert pending.function.arguments == given
    assert _submit(scene, run, "noon", "noon").status == "completed"
    [_, turn, *_] = models.requests(model)[1]["messages"]
    assert turn["tool_calls"][0]["function"] == {"name": "get_time", "arguments": given}


def _submit(scene: Scene, run: Any, *texts: str) -> Any:
    _submit_raw(scene, run.id, outputs(run, *texts))
    return scene.end_of(run)


def _submit_raw(scene: Scene, run_id: str, given: Any, **more: Any) -> Any:
    return scene.client.beta.threads.runs.submit_tool_outputs(
        run_id, thread_id=scene.thread_id, tool_outputs=given, **more
    )


def _invalid(message: str) -> dict[str, str | None]:
    return {"message": message, "type": "invalid_request_error", "param": None, "code": None}
