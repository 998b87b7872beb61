"""A run is three commits: it begins, its answer begins, it ends. Nobody asks for it in between."""

import contextlib

import pytest
from assistants.json import json_pb2
from assistants.v1 import events_pb2, messages_pb2, runs_pb2, threads_pb2

from service.api.runs import RunsServicer
from service.runner.events.build import MESSAGE_DELTA
from service.runner.events.streams import EventStream
from storage import Storage, claims, conversation, stale_runs
from storage.resources import NOTHING
from storage.rows import Run, RunStep
from storage.statements import insert
from storage.tables import RunStatus
from tests.support.model_server import ModelServer
from tests.support.runs.engines import CALLER, Engines
from tests.support.runs.reading import as_sent
from tests.support.runs.schedule import TOOLS
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import AFTER_OUTPUTS, PLAIN, WITH_CALLS, folded
from tests.support.storage.recording import Executed, transactions
from tests.support.storage.rows import PROJECT, assistant_values, get_run, user
from tests.support.waiting import until

INSERTS = {"run": insert(Run), "step": insert(RunStep)}
ANSWER = ["step", ""]
WATCHED = {
    stale_runs.COUNTS,
    stale_runs.OLDEST,
    stale_runs.QUEUED,
    stale_runs.ORPHANED,
    stale_runs.CANCELLING,
    stale_runs.OVERDUE,
}
"""What a reconciler asks, whatever happens."""

MESSAGE = messages_pb2.NewMessage(role="user", content=json_pb2.Value(string_value="Hi"))


@pytest.fixture
async def servicer(storage: Storage, engines: Engines) -> RunsServicer:
    """A servicer with an engine that works."""
    return RunsServicer(storage, engines.start(), 600, "reject")


async def read(stream: EventStream) -> list[events_pb2.RunEvent]:
    """Reads a stream to its end, as callers get it."""
    async with contextlib.aclosing(as_sent(stream)) as events:
        return [event async for event in events]


def commits(transactions: list[Executed]) -> list[str]:
    """What each commit has inserted: a run, or a step; or neither, as it ends what there is."""
    found = []
    for each in transactions:
        if each.commits:
            executed = [statement for statement, _ in each.statements]
            kinds = [kind for kind, statement in INSERTS.items() if statement in executed]
            found.append(", ".join(kinds))
    return found


def names(events: list[events_pb2.RunEvent]) -> list[str]:
    return folded([event.event for event in events])


async def test_a_run_of_a_thread(
    storage: Storage, servicer: RunsServicer, models: ModelServer
) -> None:
    model = models.script(Answer("Hello there"))
    assistant = await storage.assistants.create(PROJECT, assistant_values(model=model))
    thread = await storage.threads.create(PROJECT, {}, NOTHING, [user("Hi")])
    request = runs_pb2.CreateRunRequest(
        thread_id=thread.id, assistant_id=assistant.id, additional_messages=[MESSAGE]
    )
    with transactions() as executed:
        events = await read(await servicer.StreamRun(request, CALLER))
    assert names(events) == PLAIN
    assert commits(executed) == ["run", *ANSWER]


async def test_a_run_with_its_thread(
    storage: Storage, servicer: RunsServicer, models: ModelServer
) -> None:
    model = models.script(Answer("Hello there"))
    assistant = await storage.assistants.create(PROJECT, assistant_values(model=model))
    new = threads_pb2.NewThread(messages=[MESSAGE, MESSAGE])
    request = runs_pb2.CreateThreadAndRunRequest(assistant_id=assistant.id, thread=new)
    with transactions() as executed:
        events = await read(await servicer.StreamThreadAndRun(request, CALLER))
    assert names(events) == ["thread.created", *PLAIN]
    assert commits(executed) == ["run", *ANSWER]
    # The model is shown what was created; it is not read again.
    statements = [statement for each in executed for statement, _ in each.statements]
    assert conversation.NEWEST not in statements
    assert [turn["content"] for turn in models.requests(model)[0]["messages"][1:]] == ["Hi", "Hi"]


async def test_a_run_that_calls_functions(
    storage: Storage, servicer: RunsServicer, models: ModelServer
) -> None:
    model = models.script(Calls(("f", {"a": 1})), Answer("Hello there"))
    values = assistant_values(model=model, tools=TOOLS[:1])
    assistant = await storage.assistants.create(PROJECT, values)
    thread = await storage.threads.create(PROJECT, {}, NOTHING, [user("Hi")])
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    with transactions() as executed:
        events = await read(await servicer.StreamRun(request, CALLER))
        run = events[-2].run
        [call] = run.required_action.submit_tool_outputs.tool_calls
        outputs = runs_pb2.SubmitToolOutputsRequest(
            thread_id=thread.id,
            run_id=run.id,
            tool_outputs=[runs_pb2.ToolOutput(tool_call_id=call.id, output="1")],
        )
        after = await read(await servicer.StreamToolOutputs(outputs, CALLER))
    assert (names(events), names(after)) == (WITH_CALLS, AFTER_OUTPUTS)
    assert commits(executed) == ["run", *ANSWER, "", *ANSWER]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "call"])
async def test_it_is_shown_as_queued(
    storage: Storage, servicer: RunsServicer, models: ModelServer, streams: bool
) -> None:
    """Whatever its row says."""
    hold = Hold(Answer("Hello"))
    model = models.script(hold)
    assistant = await storage.assistants.create(PROJECT, assistant_values(model=model))
    request = runs_pb2.CreateThreadAndRunRequest(assistant_id=assistant.id)
    if streams:
        events = as_sent(await servicer.StreamThreadAndRun(request, CALLER))
        async with contextlib.aclosing(events):
            _, *shown = [(await anext(events)).run for _ in range(3)]
            for each in shown:
                assert (each.status, each.HasField("started_at")) == (each.queued, False)
        run = shown[0]
        found = await storage.runs.get(PROJECT, run.thread_id, run.id)
    else:
        created = await servicer.CreateThreadAndRun(request, CALLER)
        assert (created.status, created.started_at) == (RunStatus.queued, None)
        found = await storage.runs.get(PROJECT, created.thread_id, created.id)
    assert (found.run.status, found.run.attempt) == (RunStatus.in_progress, 1)
    await until(hold.held.is_set)
    hold.release()


async def test_followers_ask_for_nothing_while_events_come(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start()
    hold = Hold(Answer("Hello there"), after="Hello")
    following = await engines.run(engine, models.script(hold))
    await following.received("Hello")
    with transactions() as executed:
        for stream in [engine.streams.follow(following.run, 1) for _ in range(10)]:
            async with contextlib.aclosing(stream):
                while not any(event.name == MESSAGE_DELTA for event in await stream.take()):
                    pass
    # The worker asks, for all that it holds.
    asked = {statement for each in executed for statement, _ in each.statements}
    assert asked <= {claims.ATTEMPTS, *WATCHED}
    hold.release()
    await following.ended()
    assert (await get_run(storage, following.run)).status == "completed"
