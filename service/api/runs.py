"""RunsService: unpacks and checks requests, and hands them to storage and the run engine."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from assistants.v1 import runs_pb2

from service.api.new_run import Request, draft, refuse_stream
from service.calls import Caller
from service.errors import ApiError
from service.process import tracing
from service.runner.engine import Begun, Engine
from service.runner.events.streams import DisconnectHook, EventStream
from service.settings import WhenActive
from service.types import (
    checks,
    include,
    messages,
    metadata,
    paging,
    requests,
    runs,
    tool_outputs,
    tool_resources,
    when_active,
)
from storage import Storage
from storage.background import BackgroundTasks
from storage.errors import StorageError
from storage.pages import Page
from storage.rows import Run, RunStep
from storage.runs import Found, RunPage


class RunsServicer:
    """The methods of RunsService."""

    def __init__(
        self, storage: Storage, engine: Engine, run_lifetime: int, when_active: WhenActive
    ) -> None:
        """Works on `storage`; `engine` executes the runs, which expire after `run_lifetime` s.

        `when_active` is what happens to a run whose thread has an active one, unless it says.
        """
        self._storage = storage
        self._engine = engine
        self._lifetime = run_lifetime
        self._when_active = when_active
        self._background = BackgroundTasks(ApiError, StorageError)

    async def CreateRun(self, request: runs_pb2.CreateRunRequest, caller: Caller) -> Run:
        """Queues a run."""
        refuse_stream(request, "StreamRun")
        return await self._begun(self._create(request, caller))

    async def StreamRun(self, request: runs_pb2.CreateRunRequest, caller: Caller) -> EventStream:
        """Queues a run and answers with its events."""
        return await self._followed(self._create(request, caller), request.cancel_on_disconnect)

    async def CreateThreadAndRun(
        self, request: runs_pb2.CreateThreadAndRunRequest, caller: Caller
    ) -> Run:
        """Creates a thread and queues a run of it."""
        refuse_stream(request, "StreamThreadAndRun")
        return await self._begun(self._create_with_thread(request, caller))

    async def StreamThreadAndRun(
        self, request: runs_pb2.CreateThreadAndRunRequest, caller: Caller
    ) -> EventStream:
        """Creates a thread, queues a run of it and answers with its events."""
        return await self._followed(
            self._create_with_thread(request, caller), request.cancel_on_disconnect
        )

    async def ListRuns(self, request: runs_pb2.ListRunsRequest, caller: Caller) -> RunPage:
        """Returns a page of a thread's runs."""
        return await self._storage.runs.list(
            caller.project, request.thread_id, paging.parse(request)
        )

    async def GetRun(self, request: runs_pb2.GetRunRequest, caller: Caller) -> Found:
        """Returns a run."""
        return await self._storage.runs.get(caller.project, request.thread_id, request.run_id)

    async def ModifyRun(self, request: runs_pb2.ModifyRunRequest, caller: Caller) -> Found:
        """Replaces a run's metadata."""
        changes = requests.modify(request, runs.MODIFIABLE)
        return await self._storage.runs.modify(
            caller.project, request.thread_id, request.run_id, changes
        )

    async def CancelRun(self, request: runs_pb2.CancelRunRequest, caller: Caller) -> Run:
        """Asks a run to stop."""
        ended = await self._storage.runs.cancel(caller.project, request.thread_id, request.run_id)
        await self._engine.announce(ended)
        return ended.run

    async def SubmitToolOutputs(
        self, request: runs_pb2.SubmitToolOutputsRequest, caller: Caller
    ) -> Run:
        """Fills in the outputs of all pending calls and queues the run again."""
        refuse_stream(request, "StreamToolOutputs")
        return await self._begun(self._submit(request, caller))

    async def StreamToolOutputs(
        self, request: runs_pb2.SubmitToolOutputsRequest, caller: Caller
    ) -> EventStream:
        """Does the same and answers with the events that follow."""
        return await self._followed(self._submit(request, caller), request.cancel_on_disconnect)

    async def StreamRunEvents(
        self, request: runs_pb2.StreamRunEventsRequest, caller: Caller
    ) -> EventStream:
        """Answers with the run's events from a number on."""
        after = checks.integer("after_sequence", request.after_sequence, 0)
        found = await self._storage.runs.get(caller.project, request.thread_id, request.run_id)
        return await self._engine.streams.replay(found.run, after)

    async def ListRunSteps(
        self, request: runs_pb2.ListRunStepsRequest, caller: Caller
    ) -> Page[RunStep]:
        """Returns a page of a run's steps."""
        include.check(request.include)
        page = paging.parse(request)
        await self._engine.settled(request.run_id)
        return await self._storage.runs.list_steps(
            caller.project, request.thread_id, request.run_id, page
        )

    async def GetRunStep(self, request: runs_pb2.GetRunStepRequest, caller: Caller) -> RunStep:
        """Returns a step."""
        include.check(request.include)
        await self._engine.settled(request.step_id)
        return await self._storage.runs.get_step(
            caller.project, request.thread_id, request.run_id, request.step_id
        )

    async def _begun(self, work: Coroutine[Any, Any, Begun]) -> Run:
        """Begins a run, wholly: also if its caller goes away when it is stored only."""
        run, _ = await self._background.join(self._background.start(work))
        return run

    async def _followed(self, work: Coroutine[Any, Any, Begun], cancel: bool) -> EventStream:
        """Begins a run, wholly, and returns its events.

        With `cancel`, a caller that goes away before their end cancels it; nothing else does.
        """
        begun = self._background.start(work)
        try:
            run, first = await self._background.join(begun)
        except asyncio.CancelledError:
            if cancel:
                begun.add_done_callback(self._abandon)
            raise
        finally:
            # Its error, through the traceback, would keep this frame, and be kept by it.
            del begun
        events = self._engine.streams.follow(run, first)
        return DisconnectHook(events, partial(self._engine.abandon, run)) if cancel else events

    def _abandon(self, begun: asyncio.Task[Begun]) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._engine.abandon(begun.result()[0])

    async def _create(self, request: runs_pb2.CreateRunRequest, caller: Caller) -> Begun:
        include.check(request.include)
        assistant_id = checks.required_text("assistant_id", request.assistant_id, 512)
        async with self._refusing_in_order(request, assistant_id, caller):
            new = draft(request, self._lifetime)
            added = await messages.parse_all("additional_messages", request.additional_messages)
            queue = when_active.queues(request, self._when_active)
        create = self._storage.runs.create
        return await self._engine.start(
            partial(create, caller.project, request.thread_id, new, added, queue=queue)
        )

    async def _create_with_thread(
        self, request: runs_pb2.CreateThreadAndRunRequest, caller: Caller
    ) -> Begun:
        assistant_id = checks.required_text("assistant_id", request.assistant_id, 512)
        async with self._refusing_in_order(request, assistant_id, caller):
            new = draft(request, self._lifetime)
            thread = request.thread
            resources = tool_resources.parse("thread.tool_resources", thread.tool_resources)
            resources |= tool_resources.parse("tool_resources", request.tool_resources)
            pairs = metadata.parse("thread.metadata", thread.metadata)
            first = await messages.parse_all("thread.messages", thread.messages)
        create = self._storage.runs.create_with_thread
        return await self._engine.start(
            partial(create, caller.project, pairs, resources, first, new)
        )

    @asynccontextmanager
    async def _refusing_in_order(
        self, request: Request, assistant_id: str, caller: Caller
    ) -> AsyncIterator[None]:
        """Refuses first what is wrong with the assistant, where anything is wrong."""
        try:
            yield
        except ApiError:
            assistant = await self._storage.assistants.get(caller.project, assistant_id)
            draft(request, self._lifetime, assistant)
            raise

    async def _submit(self, request: runs_pb2.SubmitToolOutputsRequest, caller: Caller) -> Begun:
        outputs = tool_outputs.parse("tool_outputs", request.tool_outputs)
        submit = self._storage.runs.submit_tool_outputs
        return await self._engine.resume(
            partial(
                submit,
                caller.project,
                request.thread_id,
                request.run_id,
                outputs,
                traceparent=tracing.traceparent(),
            )
        )
