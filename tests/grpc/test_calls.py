"""Every unary call, typed, in the order in which a caller comes to them."""

from typing import Any

import pytest
from assistants.json import json_pb2
from assistants.v1 import assistants_pb2, messages_pb2, run_objects_pb2, runs_pb2, threads_pb2

from tests.support.grpc.stubs import Run, Stubs, function, user
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls, Hold
from tests.support.waiting import until

RunStep = run_objects_pb2.RunStep


def test_assistants(stubs: Stubs) -> None:
    made = stubs.assistant("a-model", name="Ann", metadata={"a": "b"}, tools=[function("f")])
    assert made.id.startswith("asst_")
    assert (made.temperature, made.top_p) == (1.0, 1.0)
    assert made.response_format.WhichOneof("format") == "auto"
    assert not made.HasField("description")
    assert not made.tools[0].function.strict
    get = assistants_pb2.GetAssistantRequest(assistant_id=made.id)
    assert stubs.assistants.GetAssistant(get) == made

    modify = assistants_pb2.ModifyAssistantRequest(assistant_id=made.id, name="Eve")
    modified = stubs.assistants.ModifyAssistant(modify)
    made.name = "Eve"
    assert modified == made

    other = stubs.assistant()
    page = stubs.assistants.ListAssistants(
        assistants_pb2.ListAssistantsRequest(order="asc", after=made.id, limit=1)
    )
    assert ([each.id for each in page.data], page.first_id) == ([other.id], other.id)

    deleted = stubs.assistants.DeleteAssistant(
        assistants_pb2.DeleteAssistantRequest(assistant_id=made.id)
    )
    assert (deleted.id, deleted.deleted) == (made.id, True)


def test_threads_and_messages(stubs: Stubs) -> None:
    thread = stubs.thread("one", "two")
    get = threads_pb2.GetThreadRequest(thread_id=thread.id)
    assert stubs.threads.GetThread(get) == thread
    modify = threads_pb2.ModifyThreadRequest(thread_id=thread.id, metadata={"k": "v"})
    assert dict(stubs.threads.ModifyThread(modify).metadata) == {"k": "v"}

    three = stubs.messages.CreateMessage(
        messages_pb2.CreateMessageRequest(
            thread_id=thread.id, role="user", parts=user("three").parts
        )
    )
    assert three.status == messages_pb2.Message.completed
    assert three.completed_at == three.created_at
    assert stubs.texts(thread.id) == [("user", "one"), ("user", "two"), ("user", "three")]
    named: dict[str, Any] = {"thread_id": thread.id, "message_id": three.id}
    assert stubs.messages.GetMessage(messages_pb2.GetMessageRequest(**named)) == three
    modified = stubs.messages.ModifyMessage(
        messages_pb2.ModifyMessageRequest(**named, metadata={"a": "b"})
    )
    assert dict(modified.metadata) == {"a": "b"}
    newest = messages_pb2.ListMessagesRequest(thread_id=thread.id, limit=1)
    page = stubs.messages.ListMessages(newest)
    assert (page.first_id, page.last_id, page.has_more) == (three.id, three.id, True)

    gone = stubs.messages.DeleteMessage(messages_pb2.DeleteMessageRequest(**named))
    assert (gone.id, gone.deleted) == (three.id, True)
    deleted = stubs.threads.DeleteThread(threads_pb2.DeleteThreadRequest(thread_id=thread.id))
    assert (deleted.id, deleted.deleted) == (thread.id, True)


def test_a_run_shows_the_defaults_of_what_nobody_chose(stubs: Stubs, models: ModelServer) -> None:
    model = models.script(Answer("Yes."))
    assistant = stubs.assistant(model, tools=[function("f")])
    run = stubs.runs.CreateRun(
        runs_pb2.CreateRunRequest(thread_id=stubs.thread("Hi").id, assistant_id=assistant.id)
    )
    assert (run.temperature, run.top_p, run.tool_choice.mode) == (1.0, 1.0, "auto")
    assert run.parallel_tool_calls
    assert run.tools[0].function.HasField("strict")
    assert not run.tools[0].function.strict


async def test_runs_and_steps(stubs: Stubs, models: ModelServer) -> None:
    model = models.script(Calls(("get_weather", {"city": "Paris"})), Answer("Sunny."))
    assistant = stubs.assistant(model, tools=[function("get_weather")])
    thread = stubs.thread()
    run: Run = stubs.runs.CreateRun(
        runs_pb2.CreateRunRequest(
            thread_id=thread.id,
            assistant_id=assistant.id,
            additional_messages=[user("How is it?")],
            metadata={"a": "b"},
        )
    )
    assert (run.status, run.model) == (Run.queued, model)
    await until(lambda: stubs.get_run(run).status == Run.requires_action)
    waiting = stubs.get_run(run)
    [call] = waiting.required_action.submit_tool_outputs.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')
    assert not call.function.HasField("output")
    named: dict[str, Any] = {"thread_id": thread.id, "run_id": run.id}
    [pending] = stubs.runs.ListRunSteps(runs_pb2.ListRunStepsRequest(**named)).data
    assert (pending.status, list(pending.tool_calls.tool_calls)) == (RunStep.in_progress, [call])

    submitted: Run = stubs.runs.SubmitToolOutputs(
        runs_pb2.SubmitToolOutputsRequest(
            **named, tool_outputs=[runs_pb2.ToolOutput(tool_call_id=call.id, output="sun")]
        )
    )
    assert submitted.status == Run.queued
    await until(lambda: stubs.get_run(run).status == Run.completed)
    assert stubs.get_run(run).usage.total_tokens == 50
    assert stubs.texts(thread.id) == [("user", "How is it?"), ("assistant", "Sunny.")]
    steps = stubs.runs.ListRunSteps(runs_pb2.ListRunStepsRequest(**named, order="asc")).data
    assert [step.WhichOneof("step_details") for step in steps] == ["tool_calls", "message_creation"]
    for step in steps:
        get = runs_pb2.GetRunStepRequest(**named, step_id=step.id)
        assert stubs.runs.GetRunStep(get) == step
        assert step.status == RunStep.completed

    modified = stubs.runs.ModifyRun(runs_pb2.ModifyRunRequest(**named, metadata={"c": "d"}))
    assert dict(modified.metadata) == {"c": "d"}
    page = stubs.runs.ListRuns(runs_pb2.ListRunsRequest(thread_id=thread.id))
    assert [each.id for each in page.data] == [run.id]


async def test_a_thread_with_a_run_that_is_cancelled(stubs: Stubs, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    assistant = stubs.assistant(models.script(held))
    run: Run = stubs.runs.CreateThreadAndRun(
        runs_pb2.CreateThreadAndRunRequest(
            assistant_id=assistant.id, thread=threads_pb2.NewThread(messages=[user("Hi")])
        )
    )
    await until(held.held.is_set)
    named: dict[str, Any] = {"thread_id": run.thread_id, "run_id": run.id}
    assert stubs.runs.CancelRun(runs_pb2.CancelRunRequest(**named)).status == Run.cancelling
    await until(lambda: stubs.get_run(run).status == Run.cancelled)
    await until(held.disconnected.is_set)
    assert stubs.texts(run.thread_id)[0] == ("user", "Hi")


@pytest.mark.parametrize("parts", [0, 1])
def test_content_is_json_or_typed(stubs: Stubs, parts: int) -> None:
    url = "https://example.org/a.png"
    Content = messages_pb2.MessageContent
    given: dict[str, Any] = (
        {
            "parts": [
                Content(text=Content.Text(value="Look")),
                Content(image_url=Content.ImageUrl(url=url)),
            ]
        }
        if parts
        else {"content": json_pb2.Value(string_value="Look")}
    )
    thread = stubs.thread()
    message = stubs.messages.CreateMessage(
        messages_pb2.CreateMessageRequest(thread_id=thread.id, role="user", **given)
    )
    assert message.content[0].text.value == "Look"
    if parts:
        assert message.content[1].image_url == Content.ImageUrl(url=url, detail="auto")
