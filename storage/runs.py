"""Runs and their steps in the database, as callers of the API see and change them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import (
    attachments,
    file_waits,
    ids,
    pages,
    resources,
    sessions,
    store_lock,
    tables,
    thread_lock,
    threads,
    transitions,
)
from storage.claims import Claim
from storage.database import Database
from storage.dialects import in_list
from storage.errors import ActiveRun, NotAwaitingOutputs, NotCancellable, WrongToolOutputs
from storage.lookup import by_id
from storage.messages import NewMessage, add_messages, lock
from storage.new_runs import Created, Draft, complete, first_claim, new_row, taken
from storage.pages import Page, PageRequest
from storage.quotas import Quotas
from storage.repository import (
    Repository,
    gets,
    gets_together,
    reads_all,
    writes,
    writes_to_thread,
)
from storage.resources import Resources
from storage.rows import Run, RunStep, table
from storage.statements import Statement, one_of, param
from storage.tables import RunStatus, StepStatus
from storage.transaction import Transaction
from storage.transitions import Ended

_TABLE = table(tables.Run)
_STEPS = table(tables.RunStep)

_IN_THREAD = _TABLE.c.thread_id == param("thread_id")
GET = Statement(sa.select(_TABLE).where(_IN_THREAD, _TABLE.c.id == param("id")), Run)
STATUSES: Statement[Any] = Statement(
    sa.select(_TABLE.c.id, _TABLE.c.status).where(in_list(_TABLE.c.id, "ids"))
)
LIST = pages.List(Run, ids.RUN, _IN_THREAD)
_OF_RUN = _STEPS.c.run_id == param("run_id")
PENDING = Statement(
    sa.select(_STEPS)
    .where(_OF_RUN, one_of(_STEPS.c.status, [StepStatus.in_progress]))
    .order_by(_STEPS.c.position.desc())
    .limit(sa.literal(1)),
    RunStep,
)
GET_STEP = Statement(sa.select(_STEPS).where(_OF_RUN, _STEPS.c.id == param("id")), RunStep)
LIST_STEPS = pages.List(RunStep, ids.STEP, _OF_RUN)


@dataclass(frozen=True, slots=True)
class Found:
    """A run, with the step whose tool outputs it awaits, if it does."""

    run: Run
    pending: RunStep | None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id


@dataclass(frozen=True, slots=True)
class RunPage(Page[Run]):
    """A page of runs, with the step whose tool outputs one of them awaits, if one does."""

    pending: RunStep | None


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run that was queued again, and the step that its tool outputs completed."""

    run: Run
    step: RunStep
    claim: Claim | None
    """The claim, if the run was taken at once."""


class Runs(Repository):
    """Runs of a project's threads."""

    def __init__(
        self, database: Database, quotas: Quotas, lease_seconds: float, server: str | None = None
    ) -> None:
        """Works on `database`, within `quotas`; a claim holds for `lease_seconds`.

        `server` is the one that claims runs, or None where they go to no other.
        """
        super().__init__(database)
        self._quotas = quotas
        self._lease = lease_seconds
        self._server = server

    @writes_to_thread
    def create(
        self,
        tx: Transaction,
        thread_id: str,
        new: Draft,
        messages: Sequence[NewMessage],
        *,
        queue: bool = False,
        claim: bool = False,
    ) -> Created:
        """Adds messages to a thread and queues a run that reads up to them.

        With `claim`, the run is claimed at once, unless it has to wait, for another run or for the
        thread's files, or another server has the thread's session. While another run is active
        this raises ActiveRun, unless `queue` is true: then the run waits behind it, and reads all
        that the thread has when it is released. Raises NotFound (the assistant, the thread, a file,
        a vector store), StoreExpired, QuotaExceeded.
        """
        # Ahead of the lock: an assistant belongs to no thread.
        values = complete(tx, new)
        thread = lock(tx, thread_id, messages)
        now, active = thread_lock.state(tx, thread)
        if active is not None and not queue:
            raise ActiveRun(thread.id, active)
        resources.check_run(tx, values.values, thread.tool_resources)
        self._quotas.admit(tx, now, messages=len(messages), run=True)
        add_messages(tx, thread, messages, now)
        run = new_row(thread, values, now, waiting=active is not None)
        here = claim and not sessions.is_elsewhere(run, thread, self._server, now)
        at_once = here and not run.waiting and not file_waits.waits(tx, run, thread, now)
        held = taken(run, now, self._lease) if at_once else None
        tx.insert(held.run if held else run)
        thread_lock.advance(tx, thread)
        return Created(run, held)

    @writes
    def create_with_thread(
        self,
        tx: Transaction,
        metadata: Mapping[str, str],
        tool_resources: Resources,
        messages: Sequence[NewMessage],
        new: Draft,
        *,
        claim: bool = False,
    ) -> Created:
        """Inserts a thread with its messages, and queues a run of it; claims it with `claim`.

        Raises NotFound (the assistant, a file, a vector store), StoreExpired, QuotaExceeded.
        """
        values = complete(tx, new)
        files = [*new.files, *tool_resources.files, *attachments.files_of(messages)]
        store_lock.lock_files(tx, files)
        now = tx.now()
        self._quotas.admit(tx, now, messages=len(messages), run=True)
        thread, rows = threads.begun(tx, metadata, tool_resources, messages, now)
        resources.check_stores(tx, new.stores)
        resources.check_run(tx, values.values, thread.tool_resources)
        run = new_row(thread, values, now)
        at_once = claim and not file_waits.waits(tx, run, thread, now)
        held = taken(run, now, self._lease, rows) if at_once else None
        tx.insert(thread)
        tx.insert(*rows)
        tx.insert(held.run if held else run)
        return Created(run, held, thread)

    @gets_together
    def get(self, tx: Transaction, thread_id: str, run_id: str) -> Found:
        """Returns a run. Raises NotFound."""
        thread_lock.find(tx, thread_id)
        return _found(tx, _one(tx, thread_id, run_id))

    @reads_all
    def statuses(self, tx: Transaction, run_ids: Collection[str]) -> dict[str, RunStatus]:
        """Returns the runs' statuses by id, in any project, without those that there are not."""
        found = tx.all(STATUSES, ids=[*run_ids])
        return {run_id: RunStatus(status) for run_id, status in found}

    @gets_together
    def list(self, tx: Transaction, thread_id: str, page: PageRequest) -> RunPage:
        """Returns a page of a thread's runs. Raises NotFound (the thread), InvalidCursor."""
        thread_lock.find(tx, thread_id)
        runs = LIST.page(tx, page, thread_id=thread_id)
        # Of a thread's runs, one at most is active. Read at the same moment: later, it may have
        # its outputs, and the run would seem to await nothing.
        found = [_found(tx, run) for run in runs.data]
        pending = next((each.pending for each in found if each.pending), None)
        return RunPage(runs.data, runs.has_more, pending)

    @writes_to_thread
    def modify(
        self, tx: Transaction, thread_id: str, run_id: str, changes: Mapping[str, Any]
    ) -> Found:
        """Replaces the given attributes. Raises NotFound."""
        thread_lock.lock(tx, thread_id)
        return _found(tx, tx.update(_one(tx, thread_id, run_id), **changes))

    @writes_to_thread
    def cancel(self, tx: Transaction, thread_id: str, run_id: str) -> Ended:
        """Asks a run to stop: `cancelling`, or `cancelled` at once where it awaits tool outputs.

        Raises NotFound, NotCancellable.
        """
        thread_lock.lock(tx, thread_id)
        run = _one(tx, thread_id, run_id)
        now = tx.now()
        if run.status == RunStatus.requires_action:
            ended = transitions.end(tx, run_id, transitions.CANCEL, now)
        else:
            # As for tool outputs; but a worker ends the run under the attempt that it holds.
            cancelling = transitions.apply(
                tx,
                run_id,
                transitions.REQUEST_CANCEL,
                now,
                transitions.NONE,
                transitions.NEXT_IF_QUEUED,
            )
            ended = None if cancelling is None else Ended(cancelling, [], [], None)
        if ended is None:
            raise NotCancellable(run.status)
        return ended

    @writes_to_thread
    def submit_tool_outputs(
        self,
        tx: Transaction,
        thread_id: str,
        run_id: str,
        outputs: Sequence[tuple[str, str]],
        *,
        claim: bool = False,
        traceparent: str | None = None,
    ) -> Submitted:
        """Fills in the outputs, by call id, of every pending call, and queues the run again.

        With `claim`, it is claimed at once, if it has not expired and no other server has the
        thread's session. From here on it belongs to the trace of `traceparent`. Raises NotFound,
        NotAwaitingOutputs, WrongToolOutputs.
        """
        thread = thread_lock.lock(tx, thread_id)
        run, step = _awaiting(tx, _one(tx, thread_id, run_id))
        calls = step.step_details["tool_calls"]
        # The others were answered by the server.
        expected = [call["id"] for call in calls if is_awaited(call)]
        got = [call_id for call_id, _ in outputs]
        if sorted(expected) != sorted(got):
            raise WrongToolOutputs(expected, got)
        now = tx.now()
        given = dict(outputs)
        details = {
            "type": "tool_calls",
            "tool_calls": [
                call | {"function": call["function"] | {"output": given[call["id"]]}}
                if call["id"] in given
                else call
                for call in calls
            ],
        }
        completed = tx.update(
            step, step_details=details, status=StepStatus.completed, completed_at=int(now)
        )
        queued = transitions.apply(
            tx,
            run_id,
            transitions.SUBMIT,
            now,
            transitions.NONE,
            # Not a claim yet, but what is published now is of a new epoch.
            transitions.NEXT,
            queued_at=now,
            lease_until=None,
            traceparent=traceparent,
        )
        if queued is None:
            raise NotAwaitingOutputs(run.status)
        here = claim and not sessions.is_elsewhere(queued, thread, self._server, now)
        held = transitions.claim(tx, run_id, now, self._lease) if here else None
        last = thread.last_position or run.position
        taken_at_once = None if held is None else first_claim(held, now, last)
        return Submitted(queued, completed, taken_at_once)

    @gets
    def list_steps(
        self, tx: Transaction, thread_id: str, run_id: str, page: PageRequest
    ) -> Page[RunStep]:
        """Returns a page of a run's steps. Raises NotFound, InvalidCursor."""
        thread_lock.find(tx, thread_id)
        _one(tx, thread_id, run_id)
        return LIST_STEPS.page(tx, page, run_id=run_id)

    @gets
    def get_step(self, tx: Transaction, thread_id: str, run_id: str, step_id: str) -> RunStep:
        """Returns a step. Raises NotFound."""
        thread_lock.find(tx, thread_id)
        _one(tx, thread_id, run_id)
        return by_id(tx, GET_STEP, "run step", step_id, run_id=run_id)


def _one(tx: Transaction, thread_id: str, run_id: str) -> Run:
    return by_id(tx, GET, "run", run_id, thread_id=thread_id)


def _found(tx: Transaction, run: Run) -> Found:
    if run.status != RunStatus.requires_action:
        return Found(run, None)
    return Found(run, tx.one(PENDING, run_id=run.id))


def is_awaited(call: Mapping[str, Any]) -> bool:
    """Returns whether a call of a run in `requires_action` waits for its output."""
    return call["type"] == "function" and call["function"]["output"] is None


def _awaiting(tx: Transaction, run: Run) -> tuple[Run, RunStep]:
    found = _found(tx, run)
    if found.pending is None:
        raise NotAwaitingOutputs(run.status)
    return run, found.pending
