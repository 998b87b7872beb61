"""A run is three commits: it begins, its answer begins, it ends. Nobody asks for it in between."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from assistants.json import json_pb2
from assistants.v1 import events_pb2, messages_pb2, runs_pb2, threads_pb2

from service.project import PROJECT
from service.runs import RunsServicer
from storage import Storage
from storage.tables import RunStatus
from tests.model_server import ModelServer
from tests.runner.engines import Engines
from tests.runner.schedule import TOOLS
from tests.script import Answer, Calls, Hold
from tests.sequences import AFTER_OUTPUTS, PLAIN, WITH_CALLS, folded
from tests.storage.recording import commits, statements
from tests.storage.rows import assistant_values, get_run, user
from tests.waiting import until

CONTEXT: Any = None
"""The servicer asks nothing of it."""

CREATED = ["Runs.create", "Claims.open", "Claims.save"]
MESSAGE = messages_pb2.NewMessage(role="user", content=json_pb2.Value(string_value="Hi"))


@pytest.fixture
async def servicer(storage: Storage, engines: Engines) -> RunsServicer:
    """A servicer with an engine that works."""
    return RunsServicer(storage, engines.start(), 600, "reject")


async def read(events: AsyncGenerator[events_pb2.RunEvent, None]) -> list[events_pb2.RunEvent]:
    """Reads a stream as gRPC does, to its end."""
    async with contextlib.aclosing(events):
        return [event async for event in events]


def names(events: list[events_pb2.RunEvent]) -> list[str]:
    return folded([event.event for event in events])


async def test_a_run_of_a_thread(
    storage: Storage, servicer: RunsServicer, models: ModelServer
) -> None:
    model = models.script(Answer("Hello there"))
    assistant = await storage.assistants.create(PROJECT, assistant_values(model=model))
    thread = await storage.threads.create(PROJECT, {}, {}, [user("Hi")])
    request = runs_pb2.CreateRunRequest(
        thread_id=thread.id, assistant_id=assistant.id, additional_messages=[MESSAGE]
    )
    with commits() as committed:
        events = await read(servicer.StreamRun(request, CONTEXT))
    assert names(events) == PLAIN
    assert committed == CREATED


async def test_a_run_with_its_thread(
    storage: Storage, servicer: RunsServicer, models: ModelServer
) -> None:
    model = models.script(Answer("Hello there"))
    assistant = await storage.assistants.create(PROJECT, assistant_values(model=model))
    new = threads_pb2.NewThread(messages=[MESSAGE, MESSAGE])
    request = runs_pb2.CreateThreadAndRunRequest(assistant_id=assistant.id, thread=new)
    with commits() as committed, statements() as executed:
        events = await read(servicer.StreamThreadAndRun(request, CONTEXT))
    assert names(events) == ["thread.created", *PLAIN]
    assert committed == ["Runs.create_with_thread", *CREATED[1:]]
    # The model is shown what was created; it is not read again.
    assert not [sql for sql, _ in executed if sql.startswith("SELECT messages")]
    assert [turn["content"] for turn in models.requests(model)[0]["messages"][1:]] == ["Hi", "Hi"]


async def test_a_run_that_calls_functions(
    storage: Storage, servicer: RunsServicer, models: ModelServer
) -> None:
    model = models.script(Calls(("f", {"a": 1})), Answer("Hello there"))
    values = assistant_values(model=model, tools=TOOLS)
    assistant = await storage.assistants.create(PROJECT, values)
    thread = await storage.threads.create(PROJECT, {}, {}, [user("Hi")])
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    with commits() as committed:
        events = await read(servicer.StreamRun(request, CONTEXT))
        run = events[-2].run
        [call] = run.required_action.submit_tool_outputs.tool_calls
        outputs = runs_pb2.SubmitToolOutputsRequest(
            thread_id=thread.id,
            run_id=run.id,
            tool_outputs=[runs_pb2.ToolOutput(tool_call_id=call.id, output="1")],
        )
        after = await read(servicer.StreamToolOutputs(outputs, CONTEXT))
    assert (names(events), names(after)) == (WITH_CALLS, AFTER_OUTPUTS)
    assert committed == [*CREATED, "Runs.submit_tool_outputs", *CREATED[1:]]


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
        events = servicer.StreamThreadAndRun(request, CONTEXT)
        first = [await anext(events) for _ in range(3)]
        shown = [event.run for event in first[1:]]
    else:
        shown = [await servicer.CreateThreadAndRun(request, CONTEXT)]
    for run in shown:
        assert run.status == run.queued
        assert not run.HasField("started_at")
    stored = await storage.runs.get(PROJECT, shown[0].thread_id, shown[0].id)
    assert (stored.run.status, stored.run.attempt) == (RunStatus.in_progress, 1)
    await until(hold.held.is_set)
    hold.release()
    if streams:
        await read(events)


async def test_followers_ask_for_nothing_while_they_hear(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start()
    hold = Hold(Answer("Hello there"), after="Hello")
    following = await engines.run(engine, models.script(hold))
    await following.heard("Hello")
    with statements() as executed:
        others = [engine.follow(following.run, 1) for _ in range(10)]
        for events in others:
            async for event in events:
                if event.event == "thread.message.delta":
                    break
            await events.aclose()
    asked = [given for _, given in executed if following.run.id in str(given)]
    assert [each for each in asked if "ids" not in each] == []
    hold.release()
    await following.ended()
    assert (await get_run(storage, following.run)).status == "completed"
