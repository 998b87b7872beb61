"""What each call asks of the database: how many statements it executes, and how many commits.

Both are most of what a call costs. Who makes one dearer, or cheaper, says so in the table.
"""

from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from assistants.v1 import assistants_pb2, messages_pb2, runs_pb2, threads_pb2

from storage import (
    claims,
    entry_claims,
    files,
    segments,
    stale_runs,
    threads,
    uploads,
    vector_stores,
)
from tests.support.grpc.stubs import Run, RunEvent, Stubs, function, last_run, user
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls, Hold
from tests.support.served import served
from tests.support.storage.declared import declared
from tests.support.storage.recording import Executed, transactions
from tests.support.waiting import until


class Cost(NamedTuple):
    """What a call takes; whatever begins and ends a transaction is not counted as a statement."""

    statements: int
    commits: int


COSTS = {
    "CreateAssistant": Cost(2, 1),
    "ListAssistants": Cost(1, 0),
    "GetAssistant": Cost(1, 0),
    "ModifyAssistant": Cost(2, 1),
    "DeleteAssistant": Cost(1, 1),
    "CreateThread": Cost(3, 1),
    "GetThread": Cost(1, 0),
    "ModifyThread": Cost(2, 1),
    "DeleteThread": Cost(4, 1),
    "ListThreads": Cost(1, 0),
    "CopyThread": Cost(6, 1),
    "CreateMessage": Cost(4, 1),
    "ListMessages": Cost(2, 0),
    "GetMessage": Cost(2, 0),
    "ModifyMessage": Cost(3, 1),
    "DeleteMessage": Cost(3, 1),
    "CreateRun": Cost(6, 1),
    "CreateThreadAndRun": Cost(5, 1),
    "ListRuns": Cost(2, 0),
    "GetRun": Cost(2, 0),
    "ModifyRun": Cost(3, 1),
    "ListRunSteps": Cost(3, 0),
    "GetRunStep": Cost(3, 0),
    "SubmitToolOutputs": Cost(6, 1),
    "CancelRun": Cost(8, 1),
    # From the call to the last event, with all that the run takes: an answer, a call, an answer.
    "StreamThreadAndRun": Cost(18, 3),
    "StreamRun": Cost(16, 3),
    "StreamToolOutputs": Cost(23, 3),
}

BACKGROUND = (
    *(stale_runs.QUEUED, stale_runs.COUNTS, claims.ATTEMPTS),
    *(entry_claims.DUE, vector_stores.DUE, segments.ORPHANS),
    *(files.EXPIRED, files.KNOWN_BLOBS, uploads.OVERDUE, threads.EXISTING),
)
"""What the server asks by itself, again and again."""


METADATA = {"a": "1"}
NEW_THREAD = threads_pb2.NewThread(messages=[user("Hi")])


class Meter:
    """What each call took, by its name."""

    def __init__(self, ended: list[Executed]) -> None:
        self.taken: dict[str, list[Executed]] = {}
        self._ended = ended

    async def measure(self, name: str, call: Awaitable[Any]) -> Any:
        """Awaits a call; what it took is in `taken`."""
        self._ended.clear()
        answer = await call
        self.taken[name] = [
            each
            for each in self._ended
            if not any(statement in BACKGROUND for statement, _ in each.statements)
        ]
        return answer

    def costs(self) -> dict[str, Cost]:
        return {
            name: Cost(
                sum(len(each.statements) for each in taken), sum(each.commits for each in taken)
            )
            for name, taken in self.taken.items()
        }

    def explained(self, names: set[str]) -> str:
        """The statements of calls, a line for each transaction."""
        known = {id(statement): name for name, statement in declared().items()}
        return "\n".join(
            f"{name}: {'write' if each.commits else 'read'}: "
            + ", ".join(known.get(id(statement), "?") for statement, _ in each.statements)
            for name in sorted(names)
            for each in self.taken.get(name, [])
        )


@pytest.fixture
async def stubs(tmp_path: Path, database_url: str, models: ModelServer) -> AsyncIterator[Stubs]:
    async with served(tmp_path, database_url, models) as stubs:
        yield stubs


@pytest.fixture
def meter() -> Iterator[Meter]:
    with transactions() as ended:
        yield Meter(ended)


async def test_what_each_call_takes(stubs: Stubs, meter: Meter, models: ModelServer) -> None:
    await _assistants(stubs, meter)
    await _threads(stubs, meter)
    await _messages(stubs, meter)
    await _streams(stubs, meter, models)
    await _runs(stubs, meter, models)
    found = meter.costs()
    others = {name for name in COSTS.keys() | found.keys() if COSTS.get(name) != found.get(name)}
    assert found == COSTS, meter.explained(others)


async def _assistants(stubs: Stubs, meter: Meter) -> None:
    api, pb = stubs.assistants, assistants_pb2
    create = pb.CreateAssistantRequest(model="any", name="Ann")
    made = await meter.measure("CreateAssistant", api.CreateAssistant(create))
    listed = pb.ListAssistantsRequest()
    await meter.measure("ListAssistants", api.ListAssistants(listed))
    named = {"assistant_id": made.id}
    await meter.measure("GetAssistant", api.GetAssistant(pb.GetAssistantRequest(**named)))
    modify = pb.ModifyAssistantRequest(**named, name="Eve")
    await meter.measure("ModifyAssistant", api.ModifyAssistant(modify))
    delete = pb.DeleteAssistantRequest(**named)
    await meter.measure("DeleteAssistant", api.DeleteAssistant(delete))


async def _threads(stubs: Stubs, meter: Meter) -> None:
    api, pb = stubs.threads, threads_pb2
    create = pb.CreateThreadRequest(messages=map(user, ["one", "two"]))
    thread = await meter.measure("CreateThread", api.CreateThread(create))
    await meter.measure("ListThreads", api.ListThreads(pb.ListThreadsRequest()))
    named = {"thread_id": thread.id}
    await meter.measure("GetThread", api.GetThread(pb.GetThreadRequest(**named)))
    modify = pb.ModifyThreadRequest(**named, metadata=METADATA)
    await meter.measure("ModifyThread", api.ModifyThread(modify))
    await meter.measure("CopyThread", api.CopyThread(pb.CopyThreadRequest(**named)))
    await meter.measure("DeleteThread", api.DeleteThread(pb.DeleteThreadRequest(**named)))


async def _messages(stubs: Stubs, meter: Meter) -> None:
    api, pb = stubs.messages, messages_pb2
    thread = {"thread_id": (await stubs.threads.CreateThread(threads_pb2.CreateThreadRequest())).id}
    create = pb.CreateMessageRequest(**thread, role="user", parts=user("Hi").parts)
    message = await meter.measure("CreateMessage", api.CreateMessage(create))
    await meter.measure("ListMessages", api.ListMessages(pb.ListMessagesRequest(**thread)))
    named = {**thread, "message_id": message.id}
    await meter.measure("GetMessage", api.GetMessage(pb.GetMessageRequest(**named)))
    modify = pb.ModifyMessageRequest(**named, metadata=METADATA)
    await meter.measure("ModifyMessage", api.ModifyMessage(modify))
    await meter.measure("DeleteMessage", api.DeleteMessage(pb.DeleteMessageRequest(**named)))


async def _streams(stubs: Stubs, meter: Meter, models: ModelServer) -> None:
    api, pb = stubs.runs, runs_pb2
    model = models.script(Answer("Hello."), Calls(("look", {})), Answer("Done."))
    assistant = await _assistant(stubs, model)
    new = pb.CreateThreadAndRunRequest(assistant_id=assistant, thread=NEW_THREAD)
    events = await meter.measure("StreamThreadAndRun", _read(api.StreamThreadAndRun(new)))
    run = pb.CreateRunRequest(assistant_id=assistant, thread_id=last_run(events).thread_id)
    events = await meter.measure("StreamRun", _read(api.StreamRun(run)))
    submit = _outputs(last_run(events))
    await meter.measure("StreamToolOutputs", _read(api.StreamToolOutputs(submit)))


async def _runs(stubs: Stubs, meter: Meter, models: ModelServer) -> None:
    api, pb = stubs.runs, runs_pb2
    held = Hold(Answer("Yes."))
    model = models.script(Calls(("look", {})), Calls(("look", {})), held, *[Answer("Yes.")] * 3)
    assistant = await _assistant(stubs, model)
    new = pb.CreateThreadAndRunRequest(assistant_id=assistant, thread=NEW_THREAD)
    asking, other = [last_run(await _read(api.StreamThreadAndRun(new))) for _ in range(2)]
    # From here on, the only worker is at work: nothing else happens than what is called.
    await api.CreateThreadAndRun(new)
    await until(held.started.is_set)

    run = await meter.measure("CreateThreadAndRun", api.CreateThreadAndRun(new))
    thread = {"thread_id": (await stubs.threads.CreateThread(threads_pb2.CreateThreadRequest())).id}
    create = pb.CreateRunRequest(**thread, assistant_id=assistant, additional_messages=[user("Hi")])
    await meter.measure("CreateRun", api.CreateRun(create))
    await meter.measure("ListRuns", api.ListRuns(pb.ListRunsRequest(thread_id=run.thread_id)))
    named = {"thread_id": run.thread_id, "run_id": run.id}
    await meter.measure("GetRun", api.GetRun(pb.GetRunRequest(**named)))
    modify = pb.ModifyRunRequest(**named, metadata=METADATA)
    await meter.measure("ModifyRun", api.ModifyRun(modify))
    named = {"thread_id": asking.thread_id, "run_id": asking.id}
    listed = api.ListRunSteps(pb.ListRunStepsRequest(**named))
    [step] = (await meter.measure("ListRunSteps", listed)).data
    get = pb.GetRunStepRequest(**named, step_id=step.id)
    await meter.measure("GetRunStep", api.GetRunStep(get))
    await meter.measure("SubmitToolOutputs", api.SubmitToolOutputs(_outputs(asking)))
    named = {"thread_id": other.thread_id, "run_id": other.id}
    await meter.measure("CancelRun", api.CancelRun(pb.CancelRunRequest(**named)))
    held.release()


async def _assistant(stubs: Stubs, model: str) -> str:
    create = assistants_pb2.CreateAssistantRequest(model=model, tools=[function("look")])
    return str((await stubs.assistants.CreateAssistant(create)).id)


async def _read(stream: AsyncIterator[RunEvent]) -> list[RunEvent]:
    return [event async for event in stream]


def _outputs(run: Run) -> runs_pb2.SubmitToolOutputsRequest:
    calls = run.required_action.submit_tool_outputs.tool_calls
    outputs = [runs_pb2.ToolOutput(tool_call_id=call.id, output="3") for call in calls]
    return runs_pb2.SubmitToolOutputsRequest(
        thread_id=run.thread_id, run_id=run.id, tool_outputs=outputs
    )
