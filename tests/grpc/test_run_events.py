"""Extensions of runs over gRPC: events from a number on, callers that go away, runs that wait."""

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import grpc
import pytest
from assistants.v1 import messages_pb2, runs_pb2, threads_pb2

from tests.support.grpc.stubs import Run, RunEvent, Stubs, function, names, user, whole
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import PLAIN
from tests.support.waiting import until

Stream = Iterator[RunEvent]


def events(stubs: Stubs, run: Run, after: int | None = None) -> list[RunEvent]:
    """Reads a run's events to their end."""
    request = runs_pb2.StreamRunEventsRequest(
        thread_id=run.thread_id, run_id=run.id, after_sequence=after
    )
    return whole(stubs.runs.StreamRunEvents(request))


def new_run(stubs: Stubs, model: str, *, cancel: bool = False) -> runs_pb2.CreateRunRequest:
    """Returns a request for a run on a new thread."""
    assistant = stubs.assistant(model, tools=[function("look")])
    return runs_pb2.CreateRunRequest(
        thread_id=stubs.thread("Hi").id, assistant_id=assistant.id, cancel_on_disconnect=cancel
    )


def refusal(stubs: Stubs, request: runs_pb2.StreamRunEventsRequest) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        list(stubs.runs.StreamRunEvents(request))
    assert isinstance(refused.value, grpc.Call)
    return refused.value.code()


def test_from_every_number_on(stubs: Stubs, models: ModelServer) -> None:
    streamed = whole(
        stubs.runs.StreamRun(new_run(stubs, models.script(Answer("Hello there, you."))))
    )
    run = streamed[0].run
    assert events(stubs, run) == streamed
    for before, after in pairwise(range(len(streamed))):
        assert events(stubs, run, streamed[before].sequence_number) == streamed[after:]
    last = streamed[-1].sequence_number
    assert events(stubs, run, last) == streamed[-1:]


async def test_a_run_that_goes_on(stubs: Stubs, models: ModelServer) -> None:
    hold = Hold(Answer("Hello there, you."), after="Hello")
    run = stubs.runs.CreateRun(new_run(stubs, models.script(hold)))
    await until(hold.held.is_set)
    request = runs_pb2.StreamRunEventsRequest(thread_id=run.thread_id, run_id=run.id)
    following = stubs.runs.StreamRunEvents(request)
    first = next(following)
    hold.release()
    assert names([first, *following]) == PLAIN


def test_numbers_that_are_none(stubs: Stubs, models: ModelServer) -> None:
    run = stubs.runs.CreateRun(new_run(stubs, models.script(Answer("Hello"))))
    last = events(stubs, run)[-1].sequence_number
    request = runs_pb2.StreamRunEventsRequest(thread_id=run.thread_id, run_id=run.id)
    for number in (-1, last + 1, 2**63 - 1):
        request.after_sequence = number
        assert refusal(stubs, request) == grpc.StatusCode.INVALID_ARGUMENT
    other = runs_pb2.StreamRunEventsRequest(thread_id=run.thread_id, run_id="run_x")
    assert refusal(stubs, other) == grpc.StatusCode.NOT_FOUND


def streamed(stubs: Stubs, way: str, hold: Hold, models: ModelServer, cancel: bool) -> Stream:
    """Makes one of the three calls that stream; the run's model holds."""
    call = getattr(stubs.runs, way)
    if way == "StreamRun":
        return cast(Stream, call(new_run(stubs, models.script(hold), cancel=cancel)))
    if way == "StreamThreadAndRun":
        request = runs_pb2.CreateThreadAndRunRequest(
            assistant_id=stubs.assistant(models.script(hold)).id,
            thread=threads_pb2.NewThread(messages=[user("Hi")]),
            cancel_on_disconnect=cancel,
        )
        return cast(Stream, call(request))
    paused = whole(stubs.runs.StreamRun(new_run(stubs, models.script(Calls(("look", {})), hold))))
    [pending] = paused[-2].run.required_action.submit_tool_outputs.tool_calls
    submission = runs_pb2.SubmitToolOutputsRequest(
        thread_id=paused[0].run.thread_id,
        run_id=paused[0].run.id,
        tool_outputs=[runs_pb2.ToolOutput(tool_call_id=pending.id, output="1")],
        cancel_on_disconnect=cancel,
    )
    return cast(Stream, call(submission))


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "kept"])
@pytest.mark.parametrize("way", ["StreamRun", "StreamThreadAndRun", "StreamToolOutputs"])
async def test_callers_that_go_away(
    stubs: Stubs, models: ModelServer, way: str, cancel: bool
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    stream = streamed(stubs, way, hold, models, cancel)
    run = next(event.run for event in stream if event.event == "thread.run.in_progress")
    await until(hold.held.is_set)
    assert isinstance(stream, grpc.Call)
    stream.cancel()
    if cancel:
        await until(hold.disconnected.is_set)
        await until(lambda: stubs.get_run(run).status == Run.cancelled)
    else:
        hold.release()
        await until(lambda: stubs.get_run(run).status == Run.completed)


async def test_runs_and_messages_that_wait(stubs: Stubs, models: ModelServer) -> None:
    hold = Hold(Answer("One"))
    request = new_run(stubs, models.script(hold, Answer("Two")))
    active = stubs.runs.CreateRun(request)
    await until(hold.held.is_set)
    message = messages_pb2.CreateMessageRequest(thread_id=active.thread_id, role="user")
    message.content.string_value = "More?"
    for call, argument in (
        (stubs.runs.CreateRun, request),
        (stubs.messages.CreateMessage, message),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(argument)
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    request.when_active = message.when_active = "queue"
    waiting = stubs.runs.CreateRun(request)
    stubs.messages.CreateMessage(message)
    hold.release()
    assert names(events(stubs, waiting)) == PLAIN
    assert ("assistant", "Two") in stubs.texts(active.thread_id)
