"""The typed streams: what comes, in which order, and how it ends."""

from assistants.v1 import runs_pb2, threads_pb2

from tests.support.grpc.stubs import Run, Stubs, function, last_run, names, user, whole
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls, Fail, Hold
from tests.support.sequences import AFTER_OUTPUTS, PLAIN, QUEUED, WITH_CALLS
from tests.support.waiting import until


def test_a_run(stubs: Stubs, models: ModelServer) -> None:
    assistant = stubs.assistant(models.script(Answer("Hello there")))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    events = whole(stubs.runs.StreamRun(request))
    assert names(events) == PLAIN
    deltas = [
        piece.text
        for event in events
        if event.HasField("message_delta")
        for piece in event.message_delta.content
    ]
    assert "".join(piece.value for piece in deltas) == "Hello there"
    assert [piece.first for piece in deltas] == [True, *[False] * (len(deltas) - 1)]
    assert last_run(events) == stubs.get_run(last_run(events))


def test_a_thread_and_its_run(stubs: Stubs, models: ModelServer) -> None:
    assistant = stubs.assistant(models.script(Answer("Hello")))
    request = runs_pb2.CreateThreadAndRunRequest(
        assistant_id=assistant.id, thread=threads_pb2.NewThread(messages=[user("Hi")])
    )
    events = whole(stubs.runs.StreamThreadAndRun(request))
    assert names(events) == ["thread.created", *PLAIN]
    assert events[0].thread.id == last_run(events).thread_id


def test_tool_outputs(stubs: Stubs, models: ModelServer) -> None:
    model = models.script(Calls(("f", {"x": 1}), ("g", {})), Answer("Done"))
    assistant = stubs.assistant(model, tools=[function("f"), function("g")])
    thread = stubs.thread("Go")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    events = whole(stubs.runs.StreamRun(request))
    assert names(events) == WITH_CALLS
    run = last_run(events)
    calls = run.required_action.submit_tool_outputs.tool_calls
    arguments_of = dict.fromkeys((call.id for call in calls), "")
    ids: dict[int, str] = {}
    for event in events:
        for piece in event.run_step_delta.tool_calls:
            ids.setdefault(piece.index, piece.id)
            arguments_of[ids[piece.index]] += piece.function.arguments
    assert arguments_of == {call.id: call.function.arguments for call in calls}

    submission = runs_pb2.SubmitToolOutputsRequest(
        thread_id=thread.id,
        run_id=run.id,
        tool_outputs=[runs_pb2.ToolOutput(tool_call_id=call.id, output="1") for call in calls],
    )
    after = whole(stubs.runs.StreamToolOutputs(submission))
    assert names(after) == AFTER_OUTPUTS
    assert after[0].sequence_number > events[-1].sequence_number
    answered = after[0].run_step.tool_calls.tool_calls
    assert [call.function.output for call in answered] == ["1", "1"]


def test_a_run_that_fails(stubs: Stubs, models: ModelServer) -> None:
    assistant = stubs.assistant(models.script(Fail(400, "Too long.")))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    events = whole(stubs.runs.StreamRun(request))
    assert names(events) == [*QUEUED, "thread.run.failed", "done"]
    error = last_run(events).last_error
    assert (error.code, error.message) == (Run.LastError.invalid_prompt, "Too long.")


def test_a_run_that_is_cancelled(stubs: Stubs, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    assistant = stubs.assistant(models.script(held))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    stream = stubs.runs.StreamRun(request)
    events = [next(stream)]
    while "".join(p.text.value for e in events for p in e.message_delta.content) != "Hello":
        events.append(next(stream))
    stubs.runs.CancelRun(runs_pb2.CancelRunRequest(thread_id=thread.id, run_id=events[0].run.id))
    events = whole([*events, *stream])
    assert names(events)[-5:] == [
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]


async def test_a_caller_that_goes_away_does_not_stop_the_run(
    stubs: Stubs, models: ModelServer
) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    assistant = stubs.assistant(models.script(held))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    stream = stubs.runs.StreamRun(request)
    run = next(stream).run
    await until(held.held.is_set)
    stream.cancel()
    held.release()
    await until(lambda: stubs.get_run(run).status == Run.completed)
    assert stubs.texts(thread.id)[-1] == ("assistant", "Hello there")


def test_a_deleted_thread_ends_its_streams(stubs: Stubs, models: ModelServer) -> None:
    held = Hold(Answer("Hello"))
    assistant = stubs.assistant(models.script(held))
    thread = stubs.thread("Hi")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    stream = stubs.runs.StreamRun(request)
    first = next(stream)
    stubs.threads.DeleteThread(threads_pb2.DeleteThreadRequest(thread_id=thread.id))
    assert names(whole([first, *stream]))[-2:] == ["thread.run.cancelled", "done"]
