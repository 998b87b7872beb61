"""Callers that go away before their stream has begun, and streams that their server breaks off."""

import asyncio
import contextlib

import pytest
from assistants.v1 import runs_pb2

from service.api.runs import RunsServicer
from service.runner.events import streams as streams_module
from storage import Storage
from storage.pages import PageRequest
from storage.resources import NOTHING
from storage.tables import ACTIVE, Run
from tests.support.gone import reported
from tests.support.model_server import ModelServer
from tests.support.runs.engines import CALLER, Engines
from tests.support.script import Answer, Hold
from tests.support.storage.rows import DATABASE_ERRORS, PROJECT, assistant_values, holding, user
from tests.support.waiting import SECONDS, until


@pytest.fixture
async def servicer(storage: Storage, engines: Engines) -> RunsServicer:
    """A servicer with an engine that works."""
    return RunsServicer(storage, engines.start(), 600, "reject")


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "call"])
async def test_an_expected_error_is_not_logged_when_its_caller_has_gone(
    storage: Storage, servicer: RunsServicer, streams: bool
) -> None:
    request = runs_pb2.CreateRunRequest(thread_id="thread_x", assistant_id="asst_x")
    calling = read(servicer, request) if streams else servicer.CreateRun(request, CALLER)
    assert await reported(storage, calling) == []


@pytest.mark.parametrize("cancel", [True, False], ids=["cancels", "stays"])
async def test_before_the_run_is_stored(
    storage: Storage, models: ModelServer, servicer: RunsServicer, cancel: bool
) -> None:
    hold = Hold(Answer("Hello"))
    request = await scene(storage, models.script(hold), cancel)
    # Nobody else can add anything to the thread.
    async with holding(storage, request.thread_id, PROJECT):
        caller = asyncio.create_task(read(servicer, request))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    if cancel:
        assert (await ended(storage, request)).status == "cancelled"
    else:
        await until(hold.held.is_set)
        hold.release()
        assert (await ended(storage, request)).status == "completed"


async def test_a_stream_that_the_server_breaks_off(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    servicer: RunsServicer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its caller is still there: the run goes on."""
    hold = Hold(Answer("Hello"))
    request = await scene(storage, models.script(hold), cancel=True)
    monkeypatch.setattr(streams_module, "SILENCE", 0.05)
    caller = asyncio.create_task(read(servicer, request))
    await until(hold.held.is_set)
    await engines.rename("runs", "hidden")
    with pytest.raises(DATABASE_ERRORS, match="runs"):
        await caller
    await engines.rename("hidden", "runs")
    hold.release()
    assert (await ended(storage, request)).status == "completed"


async def scene(storage: Storage, model: str, cancel: bool) -> runs_pb2.CreateRunRequest:
    """Makes an assistant and a thread, and returns what runs the one on the other."""
    assistant = await storage.assistants.create(PROJECT, assistant_values(model=model))
    thread = await storage.threads.create(PROJECT, {}, NOTHING, [user("Hi")])
    return runs_pb2.CreateRunRequest(
        thread_id=thread.id, assistant_id=assistant.id, cancel_on_disconnect=cancel
    )


async def read(servicer: RunsServicer, request: runs_pb2.CreateRunRequest) -> None:
    """Reads a stream as gRPC does, to its end."""
    async with contextlib.aclosing(await servicer.StreamRun(request, CALLER)) as events:
        while not events.ended:
            await events.take()


async def ended(storage: Storage, request: runs_pb2.CreateRunRequest) -> Run:
    """Waits for the end of the thread's one run."""
    async with asyncio.timeout(SECONDS):
        while True:
            runs = (await storage.runs.list(PROJECT, request.thread_id, PageRequest())).data
            if runs and runs[0].status not in ACTIVE:
                [run] = runs
                return run
            await asyncio.sleep(0.02)
