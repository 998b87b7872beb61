"""Errors as the client raises them: the table of semantics.md, so far as it can occur."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.model_server import ModelServer
from tests.rest.scene import Scene, expect
from tests.rest.wire import Wire
from tests.script import Answer

Call = Callable[[openai.OpenAI], Any]

NEW = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.beta.assistants.retrieve("asst_x"), "No assistant found with id 'asst_x'."),
        (lambda c: c.beta.assistants.update("asst_x"), "No assistant found with id 'asst_x'."),
        (lambda c: c.beta.assistants.delete("asst_x"), "No assistant found with id 'asst_x'."),
        (lambda c: c.beta.threads.retrieve("thread_x"), "No thread found with id 'thread_x'."),
        (lambda c: c.beta.threads.update("thread_x"), "No thread found with id 'thread_x'."),
        (lambda c: c.beta.threads.delete("thread_x"), "No thread found with id 'thread_x'."),
        (
            lambda c: c.beta.threads.messages.create("thread_x", role="user", content="x"),
            "No thread found with id 'thread_x'.",
        ),
        (
            lambda c: c.beta.threads.messages.list("thread_x"),
            "No thread found with id 'thread_x'.",
        ),
        (lambda c: c.beta.threads.runs.list("thread_x"), "No thread found with id 'thread_x'."),
        (
            lambda c: c.beta.threads.create_and_run(assistant_id="asst_x"),
            "No assistant found with id 'asst_x'.",
        ),
        (
            lambda c: c.beta.threads.create_and_run(assistant_id="asst_x", stream=True),
            "No assistant found with id 'asst_x'.",
        ),
    ],
)
def test_unknown_objects(client: openai.OpenAI, call: Call, message: str) -> None:
    expect(client, call, 404, message, None, None)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda messages, runs, t: messages.retrieve("x_1", thread_id=t), "message"),
        (lambda messages, runs, t: messages.update("x_1", thread_id=t), "message"),
        (lambda messages, runs, t: messages.delete("x_1", thread_id=t), "message"),
        (lambda messages, runs, t: runs.retrieve("x_1", thread_id=t), "run"),
        (lambda messages, runs, t: runs.update("x_1", thread_id=t), "run"),
        (lambda messages, runs, t: runs.cancel("x_1", thread_id=t), "run"),
        (lambda messages, runs, t: runs.steps.list("x_1", thread_id=t), "run"),
        (
            lambda messages, runs, t: runs.submit_tool_outputs(
                "x_1", thread_id=t, tool_outputs=[{"tool_call_id": "c", "output": ""}]
            ),
            "run",
        ),
        (lambda messages, runs, t: runs.create(t, assistant_id="x_1"), "assistant"),
        (lambda messages, runs, t: runs.create(t, assistant_id="x_1", stream=True), "assistant"),
    ],
)
def test_unknown_objects_of_a_thread(
    client: openai.OpenAI, call: Callable[..., Any], kind: str
) -> None:
    thread = client.beta.threads.create()
    beta = client.beta.threads
    message = f"No {kind} found with id 'x_1'."
    expect(client, lambda _: call(beta.messages, beta.runs, thread.id), 404, message, None, None)


def test_an_unknown_step(client: openai.OpenAI, models: ModelServer) -> None:
    run = Scene.create(client, models.script(Answer("Yes."))).run()
    expect(
        client,
        lambda c: c.beta.threads.runs.steps.retrieve(
            "step_x", run_id=run.id, thread_id=run.thread_id
        ),
        404,
        "No run step found with id 'step_x'.",
        None,
        None,
    )


def _assistant(**given: Any) -> Call:
    return lambda c: c.beta.assistants.create(**{"model": "any"} | given)


def _post(path: str, body: Any) -> Call:
    return lambda c: c.post(path, body=body, cast_to=object)


def _list(**given: Any) -> Call:
    return lambda c: c.beta.assistants.list(**given)


def _thread(**message: Any) -> Call:
    given: Any = [NEW | message]
    return lambda c: c.beta.threads.create(messages=given)


TOO_LONG = (
    "Invalid '{}': string too long. Expected a string with maximum length {}, but got a string "
    "with length {} instead."
)


@pytest.mark.parametrize(
    ("call", "message", "param", "code"),
    [
        (
            _post("/assistants", {}),
            "Missing required parameter: 'model'.",
            "model",
            "missing_required_parameter",
        ),
        (
            _post("/threads/runs", {}),
            "Missing required parameter: 'assistant_id'.",
            "assistant_id",
            "missing_required_parameter",
        ),
        (
            _assistant(extra_body={"foo": 1}),
            "Unknown parameter: 'foo'.",
            "foo",
            "unknown_parameter",
        ),
        (_list(extra_query={"foo": 1}), "Unknown parameter: 'foo'.", "foo", "unknown_parameter"),
        (
            _list(limit="many"),
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "limit",
            "invalid_type",
        ),
        (
            _thread(role="system"),
            "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
            "messages[0].role",
            "invalid_value",
        ),
        (
            _list(order="up"),
            "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.",
            "order",
            "invalid_value",
        ),
        (
            _list(limit=101),
            "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 "
            "instead.",
            "limit",
            "integer_above_max_value",
        ),
        (
            _list(limit=0),
            "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 "
            "instead.",
            "limit",
            "integer_below_min_value",
        ),
        (
            _assistant(temperature=2.5),
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got "
            "2.5 instead.",
            "temperature",
            "decimal_above_max_value",
        ),
        (
            _assistant(top_p=-1),
            "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -1 "
            "instead.",
            "top_p",
            "decimal_below_min_value",
        ),
        (
            _assistant(name="n" * 300),
            TOO_LONG.format("name", 256, 300),
            "name",
            "string_above_max_length",
        ),
        (
            _assistant(instructions="é" * 256_001),
            TOO_LONG.format("instructions", 256_000, 256_001),
            "instructions",
            "string_above_max_length",
        ),
        (
            _assistant(metadata={"a": "v" * 513}),
            TOO_LONG.format("metadata.a", 512, 513),
            "metadata.a",
            "string_above_max_length",
        ),
        (
            _assistant(tools=[{"type": "code_interpreter"}] * 129),
            "Invalid 'tools': array too long. Expected an array with maximum length 128, but got "
            "an array with length 129 instead.",
            "tools",
            "array_above_max_length",
        ),
        (
            _assistant(metadata={str(number): "" for number in range(17)}),
            "Invalid 'metadata': too many properties. Expected an object with at most 16 "
            "properties, but got an object with 17 properties instead.",
            "metadata",
            "object_above_max_properties",
        ),
    ],
)
def test_broken_requests(
    client: openai.OpenAI, call: Call, message: str, param: str, code: str
) -> None:
    expect(client, call, 400, message, param, code)


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_unknown_paths(client: openai.OpenAI, wire: Wire, method: str) -> None:
    expect(
        client,
        lambda c: getattr(c, method)("/nothing", cast_to=object),
        404,
        f"Invalid URL ({method.upper()} /v1/nothing)",
        None,
        None,
    )
