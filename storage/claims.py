"""The run engine's side of the database: claiming runs, and writing under a claim.

A claim is an attempt at a run with a lease. Every write of an attempt first renews its lease, on
the condition that the attempt still holds the run: so an attempt that lost its claim can change
nothing any more, not even one whose run the same worker claimed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from storage import clock, conversation, file_waits, sessions, tables, thread_lock, transitions
from storage.conversation import Context
from storage.database import Database
from storage.dialects import in_list
from storage.errors import ClaimLost, FilesNotReady, NotFound
from storage.openings import Opening
from storage.quotas import Quotas
from storage.repository import Repository, reads_all, renews, writes_all, writes_claimed
from storage.rows import Message, Run, RunStep, Thread, table
from storage.statements import Statement, one_of, param
from storage.tables import MessageStatus, RunStatus, StepStatus
from storage.transaction import Transaction

_RUNS = table(tables.Run)
_STEPS = table(tables.RunStep)

HELD = (RunStatus.in_progress, RunStatus.cancelling)
"""Statuses in which a worker can hold a run."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Steps and messages that a dead attempt left open; their rows are gone."""

    steps: list[RunStep]
    messages: list[Message]
    ended_steps: list[RunStep] = field(default_factory=list)
    """Those that it has ended: the answer to that commit may be lost."""
    ended_messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt's hold of a run."""

    run: Run
    withdrawn: Withdrawn
    reclaimed: bool
    """Whether it was taken from a worker whose lease had run out."""
    now: float
    """The database's time when it was taken, in unix seconds."""
    last_position: str
    """The greatest position in the thread then: what the attempt begins stands behind it."""
    context: Context | None = None
    """What the run's model may read, where that is known without reading it."""

    @property
    def attempt(self) -> int:
        """The number of the attempt: every write is conditional on it."""
        return self.run.attempt


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """How a message ends: its whole content, and why it is incomplete if it is."""

    id: str
    content: list[dict[str, Any]]
    incomplete_reason: str | None = None
    attachments: list[dict[str, Any]] = field(default_factory=list)


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
# Behind the thread's lock, under which statuses change.
STATE: Statement[Any] = Statement(
    sa.select(clock.now(), sa.select(_RUNS.c.status).where(*_HELD).scalar_subquery())
)
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
STEP = Statement(sa.select(_STEPS).where(_STEPS.c.id == param("id")), RunStep)


class Claims(Repository):
    """Runs as workers see them, of all projects. Each method is one transaction."""

    def __init__(
        self, database: Database, quotas: Quotas, lease_seconds: float, server: str | None = None
    ) -> None:
        """Works on `database`; a claim holds for `lease_seconds` unless renewed.

        What runs store and take is counted for `quotas`. `server` is the one that claims them, or
        None where they go to no other.
        """
        super().__init__(database)
        self._quotas = quotas
        self._lease = lease_seconds
        self._server = server

    @writes_all
    def claim(self, tx: Transaction, run_id: str) -> Claim | None:
        """Claims a run that is queued, or in progress with an expired lease; else returns None.

        What a dead attempt left open is deleted, and returned with the claim. Raises FilesNotReady,
        SessionElsewhere.
        """
        thread = thread_lock.lock_of(tx, run_id)
        if thread is None:
            return None
        now = tx.now()
        before = tx.value(STATUS, id=run_id)
        sessions.check(tx, run_id, thread, self._server, now)
        if (waiting := file_waits.check(tx, run_id, thread, now)) is not None:
            server = self._server and sessions.server_of(waiting, thread)
            raise FilesNotReady(run_id, transitions.epoch(waiting), waiting.assistant_id, server)
        run = transitions.claim(tx, run_id, now, self._lease)
        if run is None:
            return None
        reclaimed = before == RunStatus.in_progress
        withdrawn = (
            _withdraw(tx, run_id) if reclaimed else Withdrawn(*transitions.withdraw(tx, run_id))
        )
        self._quotas.count(tx, run.project_id, -len(withdrawn.messages))
        return Claim(
            run,
            withdrawn,
            reclaimed=reclaimed,
            now=now,
            last_position=thread.last_position or run.position,
        )

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

    @writes_claimed
    def release(self, tx: Transaction, claim: Claim) -> Withdrawn:
        """Gives the run back, for anybody to claim at once. Raises ClaimLost."""
        self._hold(tx, claim)
        tx.run(RELEASE, id=claim.run.id, attempt=claim.attempt)
        withdrawn = _withdraw(tx, claim.run.id)
        self._quotas.count(tx, claim.run.project_id, -len(withdrawn.messages))
        return withdrawn

    @writes_claimed
    def open(self, tx: Transaction, claim: Claim, opening: Opening) -> None:
        """Inserts what the attempt has begun. Raises ClaimLost."""
        _insert(tx, self._hold(tx, claim), opening)
        self._quotas.count(tx, claim.run.project_id, int(opening.message is not None))

    @writes_claimed
    def save(
        self,
        tx: Transaction,
        claim: Claim,
        *,
        begun: Sequence[Opening] = (),
        message: MessageEnd | None = None,
        steps: Sequence[StepEnd] = (),
        run: RunEnd | None = None,
    ) -> Saved:
        """Writes the ends of a message, of steps and of the run together. Raises ClaimLost.

        What of `begun` is not stored is inserted first. What a run that ends has open besides is
        deleted. A run that is `cancelling` can only be saved as cancelled or expired, with what it
        has open.
        """
        thread = self._lock(tx, claim)
        now, status = self._state(tx, claim)
        may_be = [RunStatus.in_progress]
        if run is not None and run.status in (RunStatus.cancelled, RunStatus.expired):
            may_be.append(RunStatus.cancelling)
        if status not in may_be:
            raise ClaimLost(claim.run.id)
        added = 0
        for opening in begun:
            if tx.one(STEP, id=opening.step.id) is None:
                _insert(tx, thread, opening)
                added += opening.message is not None
        saved_message = _end_message(tx, message, int(now)) if message else None
        saved_steps = [_end_step(tx, step, int(now)) for step in steps]
        saved_run = released = None
        withdrawn = Withdrawn([], [])
        if run is None:
            self._extend(tx, claim)
        else:
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
        tokens = sum(step.usage.get("total_tokens", 0) for step in steps if step.usage)
        self._quotas.count(tx, claim.run.project_id, added - len(withdrawn.messages))
        self._quotas.spend(tx, claim.run.project_id, now, tokens)
        return Saved(saved_message, saved_steps, saved_run, released, withdrawn)

    @reads_all
    def context(self, tx: Transaction, run: Run, limit: int) -> Context:
        """Returns what the run's model may read; of the thread, the newest `limit` messages."""
        return conversation.read(tx, run, limit)

    @reads_all
    def earlier(self, tx: Transaction, run: Run, before: Message, limit: int) -> list[Message]:
        """Returns up to `limit` messages that come right before one that was read."""
        return conversation.earlier(tx, run, before, limit)

    def _hold(self, tx: Transaction, claim: Claim) -> Thread:
        """Locks the thread of a run in progress and renews the lease. Raises ClaimLost."""
        thread = self._lock(tx, claim)
        if self._extend(tx, claim) != RunStatus.in_progress:
            raise ClaimLost(claim.run.id)
        return thread

    def _lock(self, tx: Transaction, claim: Claim) -> Thread:
        """Locks the run's thread. Raises ClaimLost if it is gone, with the run."""
        try:
            project_id = claim.run.project_id
            return thread_lock.lock(tx, claim.run.thread_id, project_id=project_id)
        except NotFound as error:
            raise ClaimLost(claim.run.id) from error

    def _state(self, tx: Transaction, claim: Claim) -> tuple[float, str | None]:
        """Returns the database's time, and the status of the run while the claim holds it."""
        found = tx.one(STATE, id=claim.run.id, attempt=claim.attempt)
        assert found is not None
        return float(found[0]), found[1]

    def _extend(self, tx: Transaction, claim: Claim) -> str | None:
        """Renews the lease of a claim that still holds its run."""
        found: str | None = tx.value(
            EXTEND, id=claim.run.id, attempt=claim.attempt, lease=self._lease
        )
        return found


def _withdraw(tx: Transaction, run_id: str) -> Withdrawn:
    """Deletes what an attempt has left open; returns that, and what it has ended."""
    steps, messages = transitions.withdraw(tx, run_id)
    ended = tx.all(conversation.STEPS, run_id=run_id)
    written = tx.all(conversation.WRITTEN, run_id=run_id) if ended else []
    return Withdrawn(steps, messages, ended, written)


def _insert(tx: Transaction, thread: Thread, opening: Opening) -> None:
    tx.insert(opening.step)
    if opening.message is not None:
        tx.insert(opening.message)
    if thread.last_position is None or opening.last_position > thread.last_position:
        thread.last_position = opening.last_position
        thread_lock.advance(tx, thread)


def _end_message(tx: Transaction, end: MessageEnd, now: int) -> Message | None:
    """Ends a message. A caller may have deleted it while it was written: the run goes on."""
    if end.incomplete_reason is None:
        ended: dict[str, Any] = {"status": MessageStatus.completed, "completed_at": now}
    else:
        ended = {
            "status": MessageStatus.incomplete,
            "incomplete_at": now,
            "incomplete_reason": end.incomplete_reason,
        }
    return tx.change(Message, end.id, content=end.content, attachments=end.attachments, **ended)


def _end_step(tx: Transaction, end: StepEnd, now: int) -> RunStep:
    changes: dict[str, Any] = {"last_error": end.last_error, "status": end.status}
    for name in ("step_details", "usage", "replay"):
        if (value := getattr(end, name)) is not None:
            changes[name] = value
    if end.status != StepStatus.in_progress:
        changes[f"{end.status}_at"] = now
    step = tx.change(RunStep, end.id, **changes)
    assert step is not None, f"{end.id} has gone while its run was held"
    return step
