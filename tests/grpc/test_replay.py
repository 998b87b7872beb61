"""What only a model server understands is in no answer and no event over gRPC."""

from typing import Any

import pytest
from assistants.v1 import messages_pb2, runs_pb2, threads_pb2
from google.protobuf.message import Message

from tests.support import marked
from tests.support.grpc.stubs import Run, Stubs, function, last_run, whole
from tests.support.model_server import ModelServer
from tests.support.waiting import until


async def ended(stubs: Stubs, run: Run, status: Any) -> Run:
    await until(lambda: stubs.get_run(run).status == status)
    return stubs.get_run(run)


def everything(stubs: Stubs, run: Run) -> list[Message]:
    """Returns all that there is to be read of a run and its thread."""
    thread: dict[str, Any] = {"thread_id": run.thread_id}
    own = {**thread, "run_id": run.id}
    steps = stubs.runs.ListRunSteps(runs_pb2.ListRunStepsRequest(**own))
    messages = stubs.messages.ListMessages(messages_pb2.ListMessagesRequest(**thread))
    return [
        steps,
        messages,
        stubs.threads.GetThread(threads_pb2.GetThreadRequest(**thread)),
        stubs.runs.ListRuns(runs_pb2.ListRunsRequest(**thread)),
        stubs.get_run(run),
        *whole(stubs.runs.StreamRunEvents(runs_pb2.StreamRunEventsRequest(**own))),
        *(
            stubs.runs.GetRunStep(runs_pb2.GetRunStepRequest(**own, step_id=step.id))
            for step in steps.data
        ),
        *(
            stubs.messages.GetMessage(messages_pb2.GetMessageRequest(**thread, message_id=each.id))
            for each in messages.data
        ),
    ]


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "polled"])
async def test_it_is_in_no_answer(stubs: Stubs, models: ModelServer, streams: bool) -> None:
    model = models.script(marked.calls(), marked.answer())
    assistant = stubs.assistant(model, tools=[function(name) for name in marked.FUNCTIONS])
    request = runs_pb2.CreateRunRequest(
        thread_id=stubs.thread("Weather?").id, assistant_id=assistant.id
    )
    received: list[Message] = []
    if streams:
        events = whole(stubs.runs.StreamRun(request))
        received += events
        run = last_run(events)
    else:
        run = await ended(stubs, stubs.runs.CreateRun(request), Run.requires_action)
    received += everything(stubs, run)
    calls = run.required_action.submit_tool_outputs.tool_calls
    submission = runs_pb2.SubmitToolOutputsRequest(
        thread_id=run.thread_id,
        run_id=run.id,
        tool_outputs=[
            runs_pb2.ToolOutput(tool_call_id=call.id, output=output)
            for call, output in zip(calls, marked.OUTPUTS, strict=True)
        ],
    )
    if streams:
        events = whole(stubs.runs.StreamToolOutputs(submission))
        received += events
        run = last_run(events)
    else:
        submitted = stubs.runs.SubmitToolOutputs(submission)
        run = await ended(stubs, submitted, Run.completed)
        received.append(submitted)
    received += everything(stubs, run)
    assert run.status == Run.completed
    first, second = models.requests(model)
    assert second["messages"] == [*first["messages"], *marked.REPLAYED]
    assert marked.SPOKEN in str(received)
    for each in received:
        assert marked.MARK.encode() not in each.SerializeToString(), each
