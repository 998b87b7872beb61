"""What the model is sent: the assistant, the thread, and what a run makes of both."""

import json
from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs
from tests.support.script import Answer, Calls, Fail

SCHEMA = {
    "type": "object",
    "properties": {
        "zulu": {"type": "string"},
        "alpha": {"type": "integer", "minimum": 1},
        "mike": {"type": "array", "items": {"type": "number", "multipleOf": 0.5}},
    },
    "required": ["zulu", "alpha", "mike"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA, "strict": True}}


def ask(
    client: openai.OpenAI, models: ModelServer, run: Any = None, **assistant: Any
) -> dict[str, Any]:
    """Runs once and returns what the model was asked."""
    model = models.script(Answer("Yes."))
    scene = Scene.create(client, model, **assistant)
    assert scene.run(**(run or {})).status == "completed"
    [request] = models.requests(model)
    return request


NOBODY: dict[str, Any] = {"temperature": None, "top_p": None}


@pytest.mark.parametrize("run", [{}, NOBODY | {"tool_choice": None, "parallel_tool_calls": None}])
@pytest.mark.parametrize("assistant", [{}, NOBODY | {"response_format": None}])
def test_what_nobody_chose_is_not_sent(
    client: openai.OpenAI, models: ModelServer, run: Any, assistant: Any
) -> None:
    request = ask(client, models, run, **assistant)
    del request["model"]
    assert request == {
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("strict", [{}, {"strict": None}])
def test_of_a_function_nothing_is_sent_that_nobody_chose(
    client: openai.OpenAI, models: ModelServer, strict: Any
) -> None:
    given = function("look")
    given["function"] |= strict
    request = ask(client, models, tools=[given])
    del request["model"], request["messages"]
    assert request == {
        "tools": [function("look")],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_is_taken_back_is_not_sent(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("One."), Answer("Two."))
    scene = Scene.create(client, model, temperature=0.5, top_p=0.5)
    # To the run, null is as good as nothing.
    assert scene.run(temperature=None, top_p=None).temperature == 0.5
    taken = client.beta.assistants.update(scene.assistant_id, temperature=None, top_p=None)
    assert (taken.temperature, taken.top_p) == (1, 1)
    run = scene.run()
    assert (run.temperature, run.top_p) == (1, 1)
    first, second = models.requests(model)
    assert (first["temperature"], first["top_p"]) == (0.5, 0.5)
    assert not {"temperature", "top_p"} & set(second)


def test_a_chosen_default_is_sent(client: openai.OpenAI, models: ModelServer) -> None:
    chosen = {"temperature": 1, "top_p": 1}
    given = function("look")
    given["function"]["strict"] = False
    run = {"tool_choice": "auto", "parallel_tool_calls": True}
    request = ask(client, models, run, tools=[given], **chosen)
    assert {key: request[key] for key in (*chosen, *run)} == chosen | run
    assert request["tools"] == [given]


def test_a_conversation(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("One."), Answer("Two."))
    scene = Scene.create(client, model, "First", instructions="Count.")
    scene.run()
    added = [
        {"role": "assistant", "content": "I had said"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    run = scene.run(additional_messages=added, additional_instructions="Slowly.")
    assert run.instructions == "Count.\nSlowly."
    assert models.requests(model)[1]["messages"] == [
        {"role": "system", "content": "Count.\nSlowly."},
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "One."},
        {"role": "assistant", "content": "I had said"},
        {"role": "user", "content": "a\nb"},
    ]
    assert [message.role for message in scene.messages()] == [
        "user",
        "assistant",
        "assistant",
        "user",
        "assistant",
    ]


@pytest.mark.parametrize(
    ("given", "own", "added", "expected"),
    [
        ("Base.", None, None, "Base."),
        ("Base.", "Own.", None, "Own."),
        ("Base.", "", None, ""),
        ("Base.", "Own.", "More.", "Own.\nMore."),
        (None, None, "More.", "More."),
        (None, None, None, ""),
    ],
)
def test_instructions(
    client: openai.OpenAI,
    models: ModelServer,
    given: str | None,
    own: str | None,
    added: str | None,
    expected: str,
) -> None:
    model = models.script(Answer("Yes."))
    scene = Scene.create(client, model, instructions=given)
    # To the run, null is as good as nothing.
    run = scene.run(instructions=own, additional_instructions=added)
    assert run.instructions == expected
    [request] = models.requests(model)
    system = [{"role": "system", "content": expected}] if expected else []
    assert request["messages"] == [*system, {"role": "user", "content": "Hello"}]


def test_what_the_assistant_has(client: openai.OpenAI, models: ModelServer) -> None:
    request = ask(
        client,
        models,
        tools=[function("look")],
        temperature=0,
        top_p=0.25,
        response_format={"type": "json_object"},
        reasoning_effort="low",
    )
    assert (request["temperature"], request["top_p"]) == (0, 0.25)
    assert request["response_format"] == {"type": "json_object"}
    assert request["reasoning_effort"] == "low"
    assert request["tools"] == [function("look")]


def test_what_the_run_overrides(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Yes."))
    scene = Scene.create(
        client,
        "no model of this name",
        instructions="Base.",
        tools=[function("look")],
        temperature=0.5,
        top_p=0.5,
        response_format={"type": "json_object"},
    )
    run = scene.run(
        model=model,
        tools=[function("see"), function("hear")],
        tool_choice={"type": "function", "function": {"name": "hear"}},
        parallel_tool_calls=False,
        temperature=2,
        top_p=0,
        response_format="auto",
        max_completion_tokens=300,
        max_prompt_tokens=1000,
        reasoning_effort="high",
        metadata={"run": "own"},
    )
    assert (run.model, run.temperature, run.top_p) == (model, 2, 0)
    assert (run.max_completion_tokens, run.max_prompt_tokens) == (300, 1000)
    assert (run.parallel_tool_calls, run.response_format) == (False, "auto")
    assert run.metadata == {"run": "own"}
    [request] = models.requests(model)
    assert [tool["function"]["name"] for tool in request["tools"]] == ["see", "hear"]
    assert request["tool_choice"] == {"type": "function", "function": {"name": "hear"}}
    assert request["parallel_tool_calls"] is False
    assert (request["temperature"], request["top_p"]) == (2, 0)
    assert request["max_completion_tokens"] == 300
    assert request["reasoning_effort"] == "high"
    assert "response_format" not in request


@pytest.mark.parametrize(
    ("choice", "afterwards"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", None),
        ({"type": "function", "function": {"name": "look"}}, None),
    ],
)
def test_a_call_is_forced_once(
    client: openai.OpenAI, models: ModelServer, choice: Any, afterwards: str | None
) -> None:
    # Forced again with its outputs at hand, no run would end.
    model = models.script(Calls(("look", {})), Answer("Yes."))
    scene = Scene.create(client, model, tools=[function("look"), function("hear")])
    run = scene.run(tool_choice=choice)
    assert run.tool_choice == choice if isinstance(choice, str) else run.tool_choice is not None
    client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "seen")
    )
    assert scene.end_of(run).status == "completed"
    choices = [request.get("tool_choice") for request in models.requests(model)]
    assert choices == [choice, afterwards]


@pytest.mark.parametrize("given", [{"type": "text"}, "auto"])
def test_text_is_what_models_answer_with(
    client: openai.OpenAI, models: ModelServer, given: Any
) -> None:
    assert "response_format" not in ask(client, models, {"response_format": given})


@pytest.mark.parametrize(
    ("parameter", "run"),
    [
        ("reasoning_effort", {"reasoning_effort": "high"}),
        ("parallel_tool_calls", {"parallel_tool_calls": False}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("temperature", {"temperature": 0.5}),
        ("tool_choice", {"tool_choice": "required"}),
    ],
)
def test_a_parameter_that_the_model_does_not_know(
    client: openai.OpenAI, models: ModelServer, parameter: str, run: Any
) -> None:
    message = f"Unsupported parameter: '{parameter}' is not supported with this model."
    model = models.script(Fail(400, message, "unsupported_parameter"))
    failed = Scene.create(client, model, tools=[function("look")]).run(**run)
    assert failed.status == "failed"
    assert failed.last_error is not None
    assert (failed.last_error.code, failed.last_error.message) == ("invalid_prompt", message)
    [request] = models.requests(model)
    assert request[parameter] == run[parameter]


def test_an_empty_list_of_tools_is_a_value(client: openai.OpenAI, models: ModelServer) -> None:
    tools = [function("look"), {"type": "file_search"}]
    request = ask(client, models, run={"tools": []}, tools=tools)
    assert "tools" not in request
    assert "tool_choice" not in request


def test_a_schema_keeps_the_order_of_its_keys(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("{}"), Answer("{}"))
    scene = Scene.create(client, model, response_format=FORMAT)
    assert scene.run().status == "completed"
    run = scene.run(response_format=FORMAT)
    assert not isinstance(run.response_format, str)
    assert run.response_format is not None
    for sent in [request["response_format"] for request in models.requests(model)]:
        assert json.dumps(sent) == json.dumps(FORMAT)


def test_the_parameters_of_a_function_keep_theirs(
    client: openai.OpenAI, models: ModelServer
) -> None:
    tool = {"name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}
    request = ask(client, models, tools=[{"type": "function", "function": tool}])
    [sent] = request["tools"]
    assert json.dumps(sent["function"]["parameters"]) == json.dumps(SCHEMA)
    assert sent == {"type": "function", "function": tool}


def test_the_last_messages(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Yes."))
    scene = Scene.create(client, model, "a", instructions="Be brief.")
    for text in ("b", "c"):
        client.beta.threads.messages.create(scene.thread_id, role="user", content=text)
    run = scene.run(truncation_strategy={"type": "last_messages", "last_messages": 2})
    assert run.truncation_strategy is not None
    assert run.truncation_strategy.model_dump() == {"type": "last_messages", "last_messages": 2}
    [request] = models.requests(model)
    assert [message["content"] for message in request["messages"]] == ["Be brief.", "b", "c"]


def test_without_a_budget_nothing_is_left_out(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Yes."))
    texts = [f"{n} " + "long " * 2000 for n in range(20)]
    assistant = client.beta.assistants.create(model=model)
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": text} for text in texts]
    )
    scene = Scene(client, assistant.id, thread.id)
    assert scene.run(truncation_strategy={"type": "auto"}).status == "completed"
    [request] = models.requests(model)
    assert [message["content"] for message in request["messages"]] == texts


def test_images(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("A cat."))
    assistant = client.beta.assistants.create(model=model)
    thread = client.beta.threads.create(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                    {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}},
                ],
            }
        ]
    )
    client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=20
    )
    [request] = models.requests(model)
    [message] = request["messages"]
    first, second, third = message["content"]
    assert first == {"type": "text", "text": "What is it?"}
    assert second["image_url"] == {"url": "https://example.com/cat.png", "detail": "auto"}
    assert third == {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}}


def test_a_deleted_message_is_not_shown(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Yes."))
    scene = Scene.create(client, model, "secret")
    message = client.beta.threads.messages.create(scene.thread_id, role="user", content="open")
    client.beta.threads.messages.delete(scene.messages()[0].id, thread_id=scene.thread_id)
    scene.run()
    [request] = models.requests(model)
    assert request["messages"] == [{"role": "user", "content": "open"}]
    assert scene.messages()[0].id == message.id


def test_a_changed_assistant_counts_from_the_next_run(
    client: openai.OpenAI, models: ModelServer
) -> None:
    model = models.script(Answer("One."), Answer("Two."))
    scene = Scene.create(client, model, instructions="Old.")
    first = scene.run()
    client.beta.assistants.update(scene.assistant_id, instructions="New.")
    second = scene.run()
    assert (first.instructions, second.instructions) == ("Old.", "New.")
    systems = [request["messages"][0]["content"] for request in models.requests(model)]
    assert systems == ["Old.", "New."]
