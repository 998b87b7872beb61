"""The run engine's side of the database: claiming runs, and writing under a claim.

A claim is an attempt at a run with a lease. Every write of an attempt first renews its lease, on
the condition that the attempt still holds the run: so an attempt that lost its claim can change
nothing any more, not even one whose run the same worker claimed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import clock, context, ids, tables, thread_lock, transitions
from storage.context import Context
from storage.database import Database
from storage.dialects import in_list
from storage.errors import ClaimLost, NotFound
from storage.repository import Repository, reads_all, renews, writes_all
from storage.rows import Message, Run, RunStep, Thread, table
from storage.statements import Statement, one_of, param
from storage.tables import MessageStatus, RunStatus, StepStatus
from storage.transaction import Transaction

_RUNS = table(tables.Run)
_STEPS = table(tables.RunStep)
_MESSAGES = table(tables.Message)

HELD = (RunStatus.in_progress, RunStatus.cancelling)
"""Statuses in which a worker can hold a run."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Steps and messages that a dead attempt left open; their rows are gone."""

    steps: list[RunStep]
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt's hold of a run."""

    run: Run
    attempt: int
    withdrawn: Withdrawn
    reclaimed: bool
    """Whether it was taken from a worker whose lease had run out."""


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """How a message ends: its whole content, and why it is incomplete if it is."""

    id: str
    content: list[dict[str, Any]]
    incomplete_reason: str | None = None


@dataclass(frozen=True, slots=True)
class StepEnd:
    """What becomes of a step. `in_progress` leaves it open, with new details."""

    id: str
    status: StepStatus
    usage: dict[str, int] | None = None
    last_error: dict[str, str] | None = None
    step_details: dict[str, Any] | None = None
    replay: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What becomes of the run when the attempt lets go of it."""

    status: RunStatus
    last_error: dict[str, str] | None = None
    incomplete_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """The rows as they are after a save, steps as given; None for what was not saved.

    `message` is None too when a caller deleted it while it was being written.
    """

    message: Message | None
    steps: list[RunStep]
    run: Run | None
    released: Run | None
    """The run that waited behind it and may be executed now, if there is one."""
    withdrawn: Withdrawn
    """What the run that ended had open besides; the rows are gone."""


_HELD = (
    _RUNS.c.id == param("id"),
    _RUNS.c.attempt == param("attempt", _RUNS.c.attempt),
)
STATUS: Statement[Any] = Statement(sa.select(_RUNS.c.status).where(_RUNS.c.id == param("id")))
EXTEND: Statement[Any] = Statement(
    sa.update(_RUNS)
    .where(*_HELD, one_of(_RUNS.c.status, HELD))
    .values(lease_until=clock.now() + param("lease", _RUNS.c.lease_until))
    .returning(_RUNS.c.status)
)
# The next attempt's number already: whoever still writes under this one lost the claim.
RELEASE: Statement[Any] = Statement(
    sa.update(_RUNS)
    .where(*_HELD)
    .values(lease_until=sa.literal(0.0), attempt=_RUNS.c.attempt + sa.literal(1))
)
ATTEMPTS: Statement[Any] = Statement(
    sa.select(_RUNS.c.id, _RUNS.c.status, _RUNS.c.attempt).where(
        in_list(_RUNS.c.id, "ids"), one_of(_RUNS.c.status, HELD)
    )
)
MESSAGE = Statement(sa.select(_MESSAGES).where(_MESSAGES.c.id == param("id")), Message)
STEP = Statement(sa.select(_STEPS).where(_STEPS.c.id == param("id")), RunStep)


class Claims(Repository):
    """Runs as workers see them, of all projects. Each method is one transaction."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        """Works on `database`; a claim holds for `lease_seconds` unless renewed."""
        super().__init__(database)
        self._lease = lease_seconds

    @writes_all
    def claim(self, tx: Transaction, run_id: str) -> Claim | None:
        """Claims a run that is queued, or in progress with an expired lease; else returns None.

        What a dead attempt left open is deleted, and returned with the claim.
        """
        if thread_lock.lock_of(tx, run_id) is None:
            return None
        now = tx.now()
        before = tx.value(STATUS, id=run_id)
        run = transitions.apply(
            tx,
            run_id,
            transitions.CLAIM,
            now,
            transitions.CLAIMABLE,
            transitions.NEXT,
            lease_until=now + self._lease,
        )
        if run is None:
            return None
        withdrawn = Withdrawn(*transitions.withdraw(tx, run_id))
        return Claim(run, run.attempt, withdrawn, before == RunStatus.in_progress)

    @renews
    def renew(self, tx: Transaction, claim: Claim) -> RunStatus:
        """Renews the lease; returns `in_progress` or `cancelling`. Raises ClaimLost."""
        status = self._extend(tx, claim)
        if status is None:
            raise ClaimLost(claim.run.id)
        return RunStatus(status)

    @reads_all
    def held(self, tx: Transaction, claims: Sequence[Claim]) -> dict[str, RunStatus]:
        """Returns the statuses of those runs, by id, that are still held by the given claims."""
        attempts = {claim.run.id: claim.attempt for claim in claims}
        return {
            run_id: RunStatus(status)
            for run_id, status, attempt in tx.all(ATTEMPTS, ids=[*attempts])
            if attempts[run_id] == attempt
        }

    @writes_all
    def release(self, tx: Transaction, claim: Claim) -> Withdrawn:
        """Gives the run back, for anybody to claim at once. Raises ClaimLost."""
        self._guard(tx, claim)
        tx.run(RELEASE, id=claim.run.id, attempt=claim.attempt)
        return Withdrawn(*transitions.withdraw(tx, claim.run.id))

    @writes_all
    def start_message(
        self, tx: Transaction, claim: Claim, ahead_of: RunStep | None = None
    ) -> tuple[RunStep, Message]:
        """Opens a step that writes a message, and the empty message. Raises ClaimLost.

        They stand ahead of the step of calls `ahead_of`, if given, although they begin later.
        """
        thread = self._guard(tx, claim)
        now = int(tx.now())
        # The step comes first in the thread, and names the message that follows it.
        if ahead_of is not None:
            first, second = (ids.ahead_of(ahead_of.position, by) for by in (2, 1))
        else:
            first = ids.next_position(thread.last_position)
            thread.last_position = second = ids.next_position(first)
            thread_lock.advance(tx, thread)
        message = Message(
            id=ids.make_id(ids.MESSAGE, second),
            project_id=claim.run.project_id,
            thread_id=thread.id,
            position=second,
            context_position=claim.run.context_until,
            created_at=now,
            status=MessageStatus.in_progress,
            role="assistant",
            content=[],
            attachments=[],
            metadata_={},
            assistant_id=claim.run.assistant_id,
            run_id=claim.run.id,
        )
        details = {"type": "message_creation", "message_creation": {"message_id": message.id}}
        step = _new_step(claim.run, first, now, details)
        tx.insert(step)
        tx.insert(message)
        return step, message

    @writes_all
    def start_tool_calls(self, tx: Transaction, claim: Claim) -> RunStep:
        """Opens a step that calls tools, without calls yet. Raises ClaimLost."""
        thread = self._guard(tx, claim)
        # A message that the model comes to after them is to stand ahead of them.
        thread.last_position = position = ids.next_position(thread.last_position, room=2)
        thread_lock.advance(tx, thread)
        details: dict[str, Any] = {"type": "tool_calls", "tool_calls": []}
        step = _new_step(claim.run, position, int(tx.now()), details)
        tx.insert(step)
        return step

    @writes_all
    def save(
        self,
        tx: Transaction,
        claim: Claim,
        *,
        message: MessageEnd | None = None,
        steps: Sequence[StepEnd] = (),
        run: RunEnd | None = None,
    ) -> Saved:
        """Writes the ends of a message, of steps and of the run together. Raises ClaimLost.

        What a run that ends has open besides is deleted.
        A run that is `cancelling` can only be saved as cancelled or expired, with what it has open.
        """
        may_be = [RunStatus.in_progress]
        if run is not None and run.status in (RunStatus.cancelled, RunStatus.expired):
            may_be.append(RunStatus.cancelling)
        self._guard(tx, claim, may_be)
        now = tx.now()
        saved_message = _end_message(tx, message, int(now)) if message else None
        saved_steps = [_end_step(tx, step, int(now)) for step in steps]
        saved_run = released = None
        withdrawn = Withdrawn([], [])
        if run is not None:
            transition = transitions.BY_WORKER[run.status]
            saved_run = transitions.apply(
                tx,
                claim.run.id,
                transition,
                now,
                transitions.HELD,
                held=claim.attempt,
                last_error=run.last_error,
                incomplete_reason=run.incomplete_reason,
                lease_until=None,
            )
            if saved_run is None:
                raise ClaimLost(claim.run.id)
            if transition.ends:
                # Begun without its knowledge: the answer to that commit was lost.
                withdrawn = Withdrawn(*transitions.withdraw(tx, saved_run.id))
                released = transitions.release_next(tx, saved_run.thread_id, now)
        return Saved(saved_message, saved_steps, saved_run, released, withdrawn)

    @reads_all
    def context(self, tx: Transaction, run: Run, limit: int) -> Context:
        """Returns what the run's model may read; of the thread, the newest `limit` messages."""
        return context.read(tx, run, limit)

    @reads_all
    def earlier(self, tx: Transaction, run: Run, before: Message, limit: int) -> list[Message]:
        """Returns up to `limit` messages that come right before one that was read."""
        return context.earlier(tx, run, before, limit)

    def _guard(
        self,
        tx: Transaction,
        claim: Claim,
        may_be: Sequence[RunStatus] = (RunStatus.in_progress,),
    ) -> Thread:
        """Locks the run's thread and renews the lease. Raises ClaimLost."""
        try:
            project_id = claim.run.project_id
            thread = thread_lock.lock(tx, claim.run.thread_id, project_id=project_id)
        except NotFound as error:
            raise ClaimLost(claim.run.id) from error
        if self._extend(tx, claim) not in may_be:
            raise ClaimLost(claim.run.id)
        return thread

    def _extend(self, tx: Transaction, claim: Claim) -> str | None:
        """Renews the lease of a claim that still holds its run."""
        found: str | None = tx.value(
            EXTEND, id=claim.run.id, attempt=claim.attempt, lease=self._lease
        )
        return found


def _new_step(run: Run, position: str, now: int, step_details: dict[str, Any]) -> RunStep:
    return RunStep(
        id=ids.make_id(ids.STEP, position),
        project_id=run.project_id,
        thread_id=run.thread_id,
        run_id=run.id,
        position=position,
        created_at=now,
        assistant_id=run.assistant_id,
        type=step_details["type"],
        status=StepStatus.in_progress,
        step_details=step_details,
        metadata_={},
    )


def _end_message(tx: Transaction, end: MessageEnd, now: int) -> Message | None:
    message = tx.one(MESSAGE, id=end.id)
    # A caller may have deleted the message while it was being written. The run goes on.
    if message is None:
        return None
    if end.incomplete_reason is None:
        ended: dict[str, Any] = {"status": MessageStatus.completed, "completed_at": now}
    else:
        ended = {
            "status": MessageStatus.incomplete,
            "incomplete_at": now,
            "incomplete_reason": end.incomplete_reason,
        }
    return tx.update(message, content=end.content, **ended)


def _end_step(tx: Transaction, end: StepEnd, now: int) -> RunStep:
    step = tx.one(STEP, id=end.id)
    assert step is not None, f"{end.id} has gone while its run was held"
    changes: dict[str, Any] = {"last_error": end.last_error, "status": end.status}
    for name in ("step_details", "usage", "replay"):
        if (value := getattr(end, name)) is not None:
            changes[name] = value
    if end.status != StepStatus.in_progress:
        changes[f"{end.status}_at"] = now
    return tx.update(step, **changes)
