"""How a run's status changes: the table of transitions, and the one statement that performs them.

queued -> in_progress -> completed | failed | incomplete | requires_action
requires_action -> queued | cancelled
queued | in_progress -> cancelling -> cancelled
any active status -> expired
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.rows import Message, Run, RunStep, table
from storage.statements import Statement, one_of, param
from storage.tables import (
    ACTIVE,
    HOLDS_THREAD,
    WAITS,
    MessageStatus,
    RunStatus,
    StepStatus,
)
from storage.transaction import Transaction

_RUNS = table(tables.Run)
_STEPS = table(tables.RunStep)
_MESSAGES = table(tables.Message)
_THREADS = table(tables.Thread)


@dataclass(frozen=True, slots=True)
class Transition:
    """One kind of change: from which statuses to which one, and what time it stamps."""

    sources: frozenset[RunStatus]
    target: RunStatus
    stamp: str | None = None

    @property
    def ends(self) -> bool:
        """Whether the run is over after it."""
        return self.target not in ACTIVE


def _from(*sources: RunStatus) -> frozenset[RunStatus]:
    return frozenset(sources)


_WORKING = _from(RunStatus.in_progress)
_ANY = _from(*ACTIVE)

CLAIM = Transition(
    _from(RunStatus.queued, RunStatus.in_progress), RunStatus.in_progress, "started_at"
)
REQUIRE_ACTION = Transition(_WORKING, RunStatus.requires_action)
SUBMIT = Transition(_from(RunStatus.requires_action), RunStatus.queued)
REQUEST_CANCEL = Transition(_from(RunStatus.queued, RunStatus.in_progress), RunStatus.cancelling)
CANCEL = Transition(
    _from(RunStatus.requires_action, RunStatus.cancelling), RunStatus.cancelled, "cancelled_at"
)
COMPLETE = Transition(_WORKING, RunStatus.completed, "completed_at")
FAIL = Transition(_WORKING, RunStatus.failed, "failed_at")
STOP_SHORT = Transition(_WORKING, RunStatus.incomplete)
EXPIRE = Transition(_ANY, RunStatus.expired)
DISCARD = Transition(_ANY, RunStatus.cancelled, "cancelled_at")
"""The run's thread is being deleted."""

BY_WORKER = {
    transition.target: transition
    for transition in (REQUIRE_ACTION, COMPLETE, FAIL, STOP_SHORT, CANCEL, EXPIRE)
}
"""What a worker may make of the run it holds, by the status that results."""

ENDS_STEP = {
    RunStatus.cancelled: StepStatus.cancelled,
    RunStatus.failed: StepStatus.failed,
    RunStatus.incomplete: StepStatus.completed,
    RunStatus.expired: StepStatus.expired,
}
"""What becomes of a step that is in progress when its run ends."""

ENDS_MESSAGE = {
    RunStatus.cancelled: "run_cancelled",
    RunStatus.failed: "run_failed",
    RunStatus.incomplete: "max_tokens",
    RunStatus.expired: "run_expired",
}
"""Why a message that is in progress when its run ends is incomplete."""


NOW = param("now", sa.column("", sa.Float(53)))
_UNOWNED = sa.or_(_RUNS.c.lease_until.is_(None), _RUNS.c.lease_until <= NOW)


@dataclass(frozen=True, eq=False, slots=True)
class Guard:
    """What a run must meet for a transition, besides its status."""

    conditions: tuple[sa.ColumnElement[bool], ...]


NONE = Guard(())
CLAIMABLE = Guard(
    (
        _RUNS.c.waiting.is_(sa.false()),
        _RUNS.c.expires_at > NOW,
        sa.or_(one_of(_RUNS.c.status, [RunStatus.queued]), _RUNS.c.lease_until <= NOW),
    )
)
HELD = Guard((_RUNS.c.attempt == param("held", _RUNS.c.attempt),))
CANCELLING_UNOWNED = Guard((_UNOWNED, one_of(_RUNS.c.status, [RunStatus.cancelling])))
OVERDUE_UNOWNED = Guard(
    # The lifetime of a run that waits behind another has not begun.
    (_UNOWNED, _RUNS.c.expires_at <= NOW, _RUNS.c.waiting.is_(sa.false()))
)


@dataclass(frozen=True, eq=False, slots=True)
class Attempt:
    """The attempt that a run is in after a transition; with it, the epoch begins (see `epoch`)."""

    value: sa.ColumnElement[int]


SAME = Attempt(_RUNS.c.attempt)
NEXT = Attempt(_RUNS.c.attempt + sa.literal(1))
# A worker ends a run under the attempt that it holds.
NEXT_IF_QUEUED = Attempt(
    sa.case(
        (one_of(_RUNS.c.status, [RunStatus.queued]), _RUNS.c.attempt + sa.literal(1)),
        else_=_RUNS.c.attempt,
    )
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that was ended from outside, with the steps and messages that ended with it."""

    run: Run
    steps: list[RunStep]
    messages: list[Message]
    released: Run | None
    """The run that waited behind it and may be executed now, if there is one."""


_STATEMENTS: dict[tuple[Transition, Guard, Attempt, tuple[str, ...]], Statement[Run]] = {}


def _statement(
    transition: Transition, guard: Guard, attempt: Attempt, names: tuple[str, ...]
) -> Statement[Run]:
    """Returns the conditional update of a transition that also sets these columns."""
    shape = transition, guard, attempt, names
    if (found := _STATEMENTS.get(shape)) is None:
        values: dict[Any, Any] = {name: param(f"new_{name}", _RUNS.c[name]) for name in names}
        values["status"] = sa.literal(str(transition.target))
        if attempt is not SAME:
            values["attempt"] = attempt.value
        changed = (
            sa.update(_RUNS)
            .where(
                _RUNS.c.id == param("id"),
                one_of(_RUNS.c.status, transition.sources),
                *guard.conditions,
            )
            .values(values)
            .returning(_RUNS)
        )
        found = _STATEMENTS[shape] = Statement(changed, Run)
    return found


def apply(
    tx: Transaction,
    run_id: str,
    transition: Transition,
    now: float,
    guard: Guard = NONE,
    attempt: Attempt = SAME,
    *,
    held: int | None = None,
    **values: Any,
) -> Run | None:
    """Performs the transition if the run is in one of its sources and meets the guard.

    One conditional UPDATE: of two that try, one gets the run as it is afterwards, the other None.
    `held` is the attempt that the guard HELD asks for; `values` are more columns to set.
    """
    if transition.stamp is not None:
        values[transition.stamp] = int(now)
    if transition.ends:
        values |= {"expires_at": None, "lease_until": None, "waiting": False}
        values["usage"] = _total_usage(tx, run_id)
    statement = _statement(transition, guard, attempt, tuple(sorted(values)))
    given: dict[str, Any] = {f"new_{name}": value for name, value in values.items()}
    needed = statement.parameters()
    if "now" in needed:
        given["now"] = now
    if "held" in needed:
        given["held"] = held
    return tx.one(statement, id=run_id, **given)


def epoch(run: Run) -> int:
    """Returns the run's epoch, by which the event bus orders what several servers publish.

    It is the run's attempt, which is increased whenever the right to publish passes on: to a worker
    that claims the run, to whoever is next when a worker releases it, to a caller that submits tool
    outputs or cancels it while it is queued, to whoever ends it in a worker's place. It is never
    decreased, and the transaction that increases it makes all later writes of the former holder
    fail. Only a request to cancel a run that a worker holds is published in that worker's epoch.
    """
    attempt: int = run.attempt
    return attempt


def claim(tx: Transaction, run_id: str, now: float, lease: float) -> Run | None:
    """Claims the run for `lease` seconds if it can be claimed. None as in `apply`."""
    return apply(tx, run_id, CLAIM, now, CLAIMABLE, NEXT, lease_until=now + lease)


def end(
    tx: Transaction,
    run_id: str,
    transition: Transition,
    now: float,
    guard: Guard = NONE,
) -> Ended | None:
    """Performs a transition that ends the run, and ends what it has open. None as in `apply`."""
    # Whoever held it has lost it; and its end is published in an epoch of its own.
    run = apply(tx, run_id, transition, now, guard, NEXT)
    if run is None:
        return None
    steps = tx.all(END_STEPS[transition.target], run_id=run_id, at=int(now))
    messages = tx.all(
        END_MESSAGES,
        run_id=run_id,
        at=int(now),
        reason=ENDS_MESSAGE[transition.target],
    )
    # A thread that is being deleted takes the runs that wait with it.
    released = None if transition is DISCARD else release_next(tx, run.thread_id, now)
    return Ended(run, _in_order(steps), _in_order(messages), released)


def _in_order(found: list[Any]) -> list[Any]:
    return sorted(found, key=lambda row: row.position)


_OPEN_STEP = (
    _STEPS.c.run_id == param("run_id"),
    one_of(_STEPS.c.status, [StepStatus.in_progress]),
)
_OPEN_MESSAGE = (
    _MESSAGES.c.run_id == param("run_id"),
    one_of(_MESSAGES.c.status, [MessageStatus.in_progress]),
)
END_STEPS = {
    target: Statement(
        sa.update(_STEPS)
        .where(*_OPEN_STEP)
        .values(
            {"status": sa.literal(str(status)), f"{status}_at": param("at", _STEPS.c.failed_at)}
        )
        .returning(_STEPS),
        RunStep,
    )
    for target, status in ENDS_STEP.items()
}
END_MESSAGES = Statement(
    sa.update(_MESSAGES)
    .where(*_OPEN_MESSAGE)
    .values(
        status=sa.literal(str(MessageStatus.incomplete)),
        incomplete_at=param("at", _MESSAGES.c.incomplete_at),
        incomplete_reason=param("reason", _MESSAGES.c.incomplete_reason),
    )
    .returning(_MESSAGES),
    Message,
)
WITHDRAW_STEPS = Statement(sa.delete(_STEPS).where(*_OPEN_STEP).returning(_STEPS), RunStep)
WITHDRAW_MESSAGES = Statement(
    sa.delete(_MESSAGES).where(*_OPEN_MESSAGE).returning(_MESSAGES), Message
)
USAGES: Statement[Any] = Statement(
    sa.select(_STEPS.c.usage).where(_STEPS.c.run_id == param("run_id"))
)


def withdraw(tx: Transaction, run_id: str) -> tuple[list[RunStep], list[Message]]:
    """Deletes the steps and messages that a run has open, and returns them."""
    steps = tx.all(WITHDRAW_STEPS, run_id=run_id)
    # A message is open only as long as the step that writes it.
    messages = tx.all(WITHDRAW_MESSAGES, run_id=run_id) if steps else []
    return _in_order(steps), _in_order(messages)


def _release() -> Statement[Run]:
    last_position = (
        sa.select(_THREADS.c.last_position)
        .where(_THREADS.c.id == param("thread_id"))
        .scalar_subquery()
    )
    first = _RUNS.alias("first")
    next_one = (
        sa.select(first.c.id)
        .where(
            first.c.thread_id == param("thread_id"),
            WAITS,
            one_of(first.c.status, [RunStatus.queued]),
        )
        .order_by(first.c.position)
        .limit(sa.literal(1))
        .scalar_subquery()
    )
    other = _RUNS.alias("other")
    active = sa.exists().where(other.c.thread_id == param("thread_id"), HOLDS_THREAD)
    released = (
        sa.update(_RUNS)
        .where(_RUNS.c.id == next_one, ~active)
        .values(
            waiting=sa.false(),
            queued_at=param("at", _RUNS.c.queued_at),
            # It was set as if the run had been released when it was created.
            expires_at=param("seconds", _RUNS.c.expires_at)
            + _RUNS.c.expires_at
            - _RUNS.c.created_at,
            context_until=last_position,
        )
        .returning(_RUNS)
    )
    return Statement(released, Run)


RELEASE = _release()


def release_next(tx: Transaction, thread_id: str, now: float) -> Run | None:
    """Releases the run that waits next in a locked thread whose active run has ended.

    From now on it may be executed, its lifetime counts, and what it reads is fixed: all that the
    thread has. Returns it, or None where none waits.
    """
    return tx.one(RELEASE, thread_id=thread_id, at=now, seconds=int(now))


def _total_usage(tx: Transaction, run_id: str) -> dict[str, int]:
    reported = [usage for (usage,) in tx.all(USAGES, run_id=run_id) if usage]
    return {
        key: sum(usage[key] for usage in reported)
        for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
