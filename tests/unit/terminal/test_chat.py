"""`assistants chat`: the client's code, with the test at the other end of its channel."""

from typing import Any

import grpc
import pytest
from assistants.v1 import (
    assistants_pb2,
    common_pb2,
    events_pb2,
    messages_pb2,
    run_objects_pb2,
    threads_pb2,
)

from tests.support.chat_scene import Scene, Terminal, Typed

Run = run_objects_pb2.Run
RunEvent = events_pb2.RunEvent
ASSISTANT = assistants_pb2.Assistant(id="asst_1", name="Ann", model="m")


def begin(*typed: Typed, interrupt_at: str = "") -> Scene:
    """Begins a conversation on an assistant and a thread; its user leaves in the end."""
    scene = Scene(Terminal(*typed, EOFError, interrupt_at=interrupt_at))
    scene.hold("asst_1", "thread_1")
    assert scene.answer("GetThread", threads_pb2.Thread(id="thread_1")).thread_id == "thread_1"
    assert scene.answer("GetAssistant", ASSISTANT).assistant_id == "asst_1"
    return scene


def run(status: Any, **fields: Any) -> RunEvent:
    name = Run.Status.Name(status)
    state = Run(id="run_1", thread_id="thread_1", status=status, **fields)
    return RunEvent(event=f"thread.run.{name}", run=state)


def text(*pieces: str) -> list[RunEvent]:
    part = events_pb2.MessageDelta.ContentDelta
    return [
        RunEvent(event="thread.message.created", message=messages_pb2.Message(id="msg_1")),
        *(
            RunEvent(
                event="thread.message.delta",
                message_delta=events_pb2.MessageDelta(
                    content=[part(text=events_pb2.MessageDelta.TextDelta(value=piece))]
                ),
            )
            for piece in pieces
        ),
    ]


DONE = RunEvent(event="done", done=RunEvent.Done())
ANSWERED = [run(Run.in_progress), *text("He", "llo [b]!"), run(Run.completed), DONE]


def test_an_answer_is_printed_as_it_is() -> None:
    scene = begin("Hi [there]", "")
    request = scene.stream("StreamRun", *ANSWERED)
    assert (request.thread_id, request.assistant_id) == ("thread_1", "asst_1")
    [message] = request.additional_messages
    assert (message.role, message.parts[0].text.value) == ("user", "Hi [there]")
    shown = scene.ended()
    assert "[bold]Ann[/] (m), thread thread_1." in shown
    assert "Hello [b]!" in shown
    command = "bin/assistants chat --assistant asst_1 --thread thread_1"
    assert shown.endswith(f"To go on: {command}\n")


def test_the_user_chooses_an_assistant() -> None:
    scene = Scene(Terminal("9", "x", "2", EOFError))
    scene.hold()
    page = assistants_pb2.ListAssistantsResponse(
        data=[ASSISTANT, assistants_pb2.Assistant(id="asst_2", model="m")], has_more=True
    )
    scene.answer("ListAssistants", page)
    scene.answer("CreateThread", threads_pb2.Thread(id="thread_1"))
    shown = scene.ended()
    assert "There are more: --assistant takes the id of any." in shown
    assert "There is no number 9." in shown
    assert "There is no number x." in shown
    assert "[bold]asst_2[/] (m), thread thread_1." in shown


@pytest.mark.parametrize("known", [[], [ASSISTANT]])
def test_the_user_creates_an_assistant(known: list[assistants_pb2.Assistant]) -> None:
    answers = [""] if known else []
    scene = Scene(Terminal(*answers, "Bob", "Be brief.", "", EOFError))
    scene.hold()
    scene.answer("ListAssistants", assistants_pb2.ListAssistantsResponse(data=known))
    request = scene.answer("CreateAssistant", ASSISTANT)
    assert (request.model, request.name, request.instructions) == ("default", "Bob", "Be brief.")
    scene.answer("CreateThread", None, grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(grpc.RpcError):
        scene.ended()
    # It is there now, so the user has seen it.
    assert "Created asst_1." in scene.terminal.shown


@pytest.mark.parametrize(("typed", "given"), [(["gpt"], None), ([], "gpt")])
def test_the_model_of_a_new_assistant(typed: list[str], given: str | None) -> None:
    scene = Scene(Terminal("Bob", "", *typed, EOFError))
    scene.hold(model=given)
    scene.answer("ListAssistants", assistants_pb2.ListAssistantsResponse())
    assert scene.answer("CreateAssistant", ASSISTANT).model == "gpt"
    scene.answer("CreateThread", threads_pb2.Thread(id="thread_1"))
    scene.ended()


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, EOFError])
def test_no_assistant_is_chosen(leaving: type[BaseException]) -> None:
    scene = Scene(Terminal(leaving))
    scene.hold()
    scene.answer("ListAssistants", assistants_pb2.ListAssistantsResponse(data=[ASSISTANT]))
    assert "To go on" not in scene.ended()


def awaiting(*names: str) -> RunEvent:
    calls = [run_objects_pb2.ToolCall(id=f"call_{name}", function={"name": name}) for name in names]
    action = Run.RequiredAction(submit_tool_outputs=Run.SubmitToolOutputs(tool_calls=calls))
    return run(Run.requires_action, required_action=action)


def called(name: str, arguments: str) -> RunEvent:
    call = events_pb2.RunStepDelta.ToolCallDelta
    pieces = [
        call(index=0, id=f"call_{name}", function={"name": name}),
        call(index=0, function={"arguments": arguments}),
    ]
    return RunEvent(
        event="thread.run.step.delta",
        run_step_delta=events_pb2.RunStepDelta(id="step_1", tool_calls=pieces),
    )


def test_tool_calls_are_shown_and_their_outputs_submitted() -> None:
    scene = begin("Go", "1", "2")
    calls = [called("f", '{"x": 1}'), called("g", "{}"), awaiting("f", "g"), DONE]
    scene.stream("StreamRun", run(Run.in_progress), *calls)
    request = scene.stream("StreamToolOutputs", run(Run.queued), *ANSWERED)
    outputs = [(each.tool_call_id, each.output) for each in request.tool_outputs]
    assert outputs == [("call_f", "1"), ("call_g", "2")]
    shown = scene.ended()
    assert 'calls f[/] {"x": 1}' in shown
    assert "What does [cyan]g[/] return? " in shown
    assert "Hello" in shown


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, EOFError])
def test_no_output_is_given(leaving: type[BaseException]) -> None:
    scene = begin("Go", leaving)
    scene.stream("StreamRun", run(Run.in_progress), called("f", "{}"), awaiting("f"), DONE)
    request = scene.answer("CancelRun", Run())
    assert (request.thread_id, request.run_id) == ("thread_1", "run_1")
    scene.ended()


def test_an_interrupt_cancels_the_run_and_the_loop_goes_on() -> None:
    scene = begin("Hi", "Again", interrupt_at="He")
    _, rpc = scene.begin("StreamRun", run(Run.in_progress), *text("He"))
    assert scene.answer("CancelRun", Run()).run_id == "run_1"
    for event in (run(Run.cancelling), run(Run.cancelled), DONE):
        rpc.send_response(event)
    rpc.terminate((), grpc.StatusCode.OK, "")
    scene.stream("StreamRun", *ANSWERED)
    shown = scene.ended()
    assert "[yellow]cancelled[/]" in shown
    assert "Hello" in shown


def test_an_interrupt_that_comes_too_late() -> None:
    scene = begin("Hi", interrupt_at="llo")
    _, rpc = scene.begin("StreamRun", *ANSWERED)
    scene.answer("CancelRun", Run(), grpc.StatusCode.FAILED_PRECONDITION)
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert "It is so." not in scene.ended()


def test_an_interrupt_before_the_run_is_known() -> None:
    scene = begin("Hi", interrupt_at="Wait")
    error = RunEvent(event="thread.run.queued", error=common_pb2.Error(message="Wait"))
    _, rpc = scene.begin("StreamRun", error, run(Run.queued))
    scene.answer("CancelRun", Run())
    rpc.send_response(run(Run.cancelled))
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert "cancelled" in scene.ended()


def test_a_run_that_fails_and_a_stream_that_ends() -> None:
    scene = begin("1", "2", "3", KeyboardInterrupt, "4")
    failed = run(Run.failed, last_error=Run.LastError(message="No [x]."))
    scene.stream("StreamRun", failed, DONE)
    error = common_pb2.Error(message="The server is shutting down.", type="server_error")
    scene.stream("StreamRun", RunEvent(event="error", error=error))
    scene.stream("StreamRun", code=grpc.StatusCode.FAILED_PRECONDITION)
    scene.stream("StreamRun", *ANSWERED)
    shown = scene.ended()
    assert "[red]failed: No \\[x].[/]" in shown
    assert "[red]The server is shutting down.[/]" in shown
    assert "[red]It is so.[/]" in shown
    assert "Hello" in shown


def test_an_unknown_assistant_ends_the_conversation() -> None:
    scene = Scene(Terminal())
    scene.hold("asst_x")
    scene.answer("GetAssistant", None, grpc.StatusCode.NOT_FOUND)
    with pytest.raises(grpc.RpcError):
        scene.ended()


def test_an_unknown_thread_is_refused_before_an_assistant_is_chosen() -> None:
    scene = Scene(Terminal())
    scene.hold(thread="thread_x")
    scene.answer("GetThread", None, grpc.StatusCode.NOT_FOUND)
    with pytest.raises(grpc.RpcError):
        scene.ended()
    assert scene.terminal.shown == ""
