"""Runs and their steps in the database, as callers of the API see and change them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, ids, pages, thread_lock, threads, transitions
from storage.database import Database, finishing
from storage.errors import ActiveRun, NotAwaitingOutputs, NotCancellable, WrongToolOutputs
from storage.lookup import by_id
from storage.messages import NewMessage, add_messages
from storage.pages import Page, PageRequest
from storage.tables import Run, RunStatus, RunStep, StepStatus, Thread
from storage.transitions import Ended

AT_ONCE = 1000
"""Ids in one statement: neither database takes more than 32,766 parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to insert: what the request and the assistant decide. `lifetime` is in seconds."""

    assistant_id: str
    model: str
    instructions: str
    tools: list[dict[str, Any]]
    metadata: dict[str, str]
    temperature: float | None
    top_p: float | None
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    truncation_strategy: dict[str, Any]
    tool_choice: Any
    parallel_tool_calls: bool | None
    response_format: Any
    reasoning_effort: str | None
    lifetime: int


@dataclass(frozen=True, slots=True)
class Found:
    """A run, with the step whose tool outputs it awaits, if it does."""

    run: Run
    pending: RunStep | None


@dataclass(frozen=True, slots=True)
class RunPage(Page[Run]):
    """A page of runs, with the step whose tool outputs one of them awaits, if one does."""

    pending: RunStep | None


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run that is queued again, and the step that its tool outputs completed."""

    run: Run
    step: RunStep


@finishing
class Runs:
    """Runs of a project's threads. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        self._database = database

    async def create(
        self,
        project_id: str,
        thread_id: str,
        new: NewRun,
        messages: Sequence[NewMessage],
        *,
        queue: bool = False,
    ) -> Run:
        """Adds messages to a thread and queues a run that reads up to them.

        While another run is active this raises ActiveRun, unless `queue` is true: then the run
        waits behind it, and reads all that the thread has when it is released. Raises NotFound (the
        thread).
        """
        async with self._database.transaction() as session:
            thread = await thread_lock.lock(session, project_id, thread_id)
            active = await thread_lock.active_run(session, thread)
            if active is not None and not queue:
                raise ActiveRun(thread.id, active)
            now = await clock.read(session)
            await add_messages(session, thread, messages, int(now))
            return _insert(session, thread, new, now, waiting=active is not None)

    async def create_with_thread(
        self,
        project_id: str,
        metadata: Mapping[str, str],
        tool_resources: Mapping[str, Any],
        messages: Sequence[NewMessage],
        new: NewRun,
    ) -> tuple[Thread, Run]:
        """Inserts a thread with its messages, and queues a run of it."""
        async with self._database.transaction() as session:
            thread = await threads.insert(session, project_id, metadata, tool_resources, messages)
            return thread, _insert(session, thread, new, await clock.read(session))

    async def get(self, project_id: str, thread_id: str, run_id: str) -> Found:
        """Returns a run. Raises NotFound."""
        async with self._database.read() as session:
            await thread_lock.find(session, project_id, thread_id)
            return await _found(session, await _one(session, thread_id, run_id))

    async def statuses(self, run_ids: Collection[str]) -> dict[str, RunStatus]:
        """Returns the runs' statuses by id, in any project, without those that there are not."""
        ids, found = [*run_ids], dict[str, RunStatus]()
        async with self._database.read() as session:
            for start in range(0, len(ids), AT_ONCE):
                some = col(Run.id).in_(ids[start : start + AT_ONCE])
                for run_id, status in await session.exec(select(Run.id, Run.status).where(some)):
                    found[run_id] = RunStatus(status)
        return found

    async def list(self, project_id: str, thread_id: str, page: PageRequest) -> RunPage:
        """Returns a page of a thread's runs. Raises NotFound (the thread), InvalidCursor."""
        async with self._database.read() as session:
            await thread_lock.find(session, project_id, thread_id)
            runs = await pages.fetch(session, Run, ids.RUN, page, Run.thread_id == thread_id)
            # Of a thread's runs, one at most is active. Read at the same moment: later, it may
            # have its outputs, and the run would seem to await nothing.
            found = [await _found(session, run) for run in runs.data]
            pending = next((each.pending for each in found if each.pending), None)
            return RunPage(runs.data, runs.has_more, pending)

    async def modify(
        self, project_id: str, thread_id: str, run_id: str, changes: Mapping[str, Any]
    ) -> Found:
        """Replaces the given columns. Raises NotFound."""
        async with self._database.transaction() as session:
            await thread_lock.lock(session, project_id, thread_id)
            run = await _one(session, thread_id, run_id)
            for column, value in changes.items():
                setattr(run, column, value)
            return await _found(session, run)

    async def cancel(self, project_id: str, thread_id: str, run_id: str) -> Ended:
        """Asks a run to stop: `cancelling`, or `cancelled` at once where it awaits tool outputs.

        Raises NotFound, NotCancellable.
        """
        async with self._database.transaction() as session:
            await thread_lock.lock(session, project_id, thread_id)
            run = await _one(session, thread_id, run_id)
            now = await clock.read(session)
            if run.status == RunStatus.requires_action:
                ended = await transitions.end(session, run_id, transitions.CANCEL, now)
            else:
                # As for tool outputs; but a worker ends the run under the attempt that it holds.
                attempt = run.attempt + (run.status == RunStatus.queued)
                requested = transitions.REQUEST_CANCEL
                cancelling = await transitions.apply(
                    session, run_id, requested, now, attempt=attempt
                )
                ended = None if cancelling is None else Ended(cancelling, [], [], None)
            if ended is None:
                raise NotCancellable(run.status)
        return ended

    async def submit_tool_outputs(
        self, project_id: str, thread_id: str, run_id: str, outputs: Sequence[tuple[str, str]]
    ) -> Submitted:
        """Fills in the outputs, by call id, of every pending call, and queues the run again.

        Raises NotFound, NotAwaitingOutputs, WrongToolOutputs.
        """
        async with self._database.transaction() as session:
            await thread_lock.lock(session, project_id, thread_id)
            run, step = await _awaiting(session, await _one(session, thread_id, run_id))
            calls = step.step_details["tool_calls"]
            expected, got = [call["id"] for call in calls], [call_id for call_id, _ in outputs]
            if sorted(expected) != sorted(got):
                raise WrongToolOutputs(expected, got)
            now = await clock.read(session)
            given = dict(outputs)
            step.step_details = {
                "type": "tool_calls",
                "tool_calls": [
                    call | {"function": call["function"] | {"output": given[call["id"]]}}
                    for call in calls
                ],
            }
            step.status, step.completed_at = StepStatus.completed, int(now)
            queued = await transitions.apply(
                session,
                run_id,
                transitions.SUBMIT,
                now,
                queued_at=now,
                lease_until=None,
                # Not a claim yet, but events are numbered by it (see service/runner/bus.py).
                attempt=Run.attempt + 1,
            )
            if queued is None:
                raise NotAwaitingOutputs(run.status)
        return Submitted(queued, step)

    async def list_steps(
        self, project_id: str, thread_id: str, run_id: str, page: PageRequest
    ) -> Page[RunStep]:
        """Returns a page of a run's steps. Raises NotFound, InvalidCursor."""
        async with self._database.read() as session:
            await thread_lock.find(session, project_id, thread_id)
            await _one(session, thread_id, run_id)
            return await pages.fetch(session, RunStep, ids.STEP, page, RunStep.run_id == run_id)

    async def get_step(self, project_id: str, thread_id: str, run_id: str, step_id: str) -> RunStep:
        """Returns a step. Raises NotFound."""
        async with self._database.read() as session:
            await thread_lock.find(session, project_id, thread_id)
            await _one(session, thread_id, run_id)
            statement = select(RunStep).where(RunStep.run_id == run_id, RunStep.id == step_id)
            return await by_id(session, statement, "run step", step_id)


def _insert(
    session: AsyncSession, thread: Thread, new: NewRun, now: float, *, waiting: bool = False
) -> Run:
    context_until = thread.last_position or ids.new_position()
    thread.last_position = ids.next_position(context_until)
    run = Run(
        id=ids.make_id(ids.RUN, thread.last_position),
        project_id=thread.project_id,
        thread_id=thread.id,
        position=thread.last_position,
        created_at=int(now),
        assistant_id=new.assistant_id,
        status=RunStatus.queued,
        waiting=waiting,
        queued_at=now,
        context_until=context_until,
        model=new.model,
        instructions=new.instructions,
        tools=new.tools,
        metadata_=new.metadata,
        temperature=new.temperature,
        top_p=new.top_p,
        max_prompt_tokens=new.max_prompt_tokens,
        max_completion_tokens=new.max_completion_tokens,
        truncation_strategy=new.truncation_strategy,
        tool_choice=new.tool_choice,
        parallel_tool_calls=new.parallel_tool_calls,
        response_format=new.response_format,
        reasoning_effort=new.reasoning_effort,
        expires_at=int(now) + new.lifetime,
    )
    session.add(run)
    return run


async def _one(session: AsyncSession, thread_id: str, run_id: str) -> Run:
    statement = select(Run).where(Run.thread_id == thread_id, Run.id == run_id)
    return await by_id(session, statement, "run", run_id)


async def _found(session: AsyncSession, run: Run) -> Found:
    if run.status != RunStatus.requires_action:
        return Found(run, None)
    statement = (
        select(RunStep)
        .where(RunStep.run_id == run.id, RunStep.status == StepStatus.in_progress)
        .order_by(col(RunStep.position).desc())
        .limit(1)
    )
    return Found(run, (await session.exec(statement)).one_or_none())


async def _awaiting(session: AsyncSession, run: Run) -> tuple[Run, RunStep]:
    found = await _found(session, run)
    if found.pending is None:
        raise NotAwaitingOutputs(run.status)
    return run, found.pending
