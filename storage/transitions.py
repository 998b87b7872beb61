"""How a run's status changes: the table of transitions, and the one statement that performs them.

queued -> in_progress -> completed | failed | incomplete | requires_action
requires_action -> queued | cancelled
queued | in_progress -> cancelling -> cancelled
any active status -> expired
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.tables import (
    ACTIVE,
    Message,
    MessageStatus,
    Run,
    RunStatus,
    RunStep,
    StepStatus,
    Thread,
)


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


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that was ended from outside, with the steps and messages that ended with it."""

    run: Run
    steps: list[RunStep]
    messages: list[Message]
    released: Run | None
    """The run that waited behind it and may be executed now, if there is one."""


async def apply(
    session: AsyncSession,
    run_id: str,
    transition: Transition,
    now: float,
    *where: ColumnElement[bool],
    **values: Any,
) -> Run | None:
    """Performs the transition if the run is in one of its sources and meets `where`.

    One conditional UPDATE: of two that try, one gets the run as it is afterwards, the other None.
    """
    if transition.stamp is not None:
        values[transition.stamp] = int(now)
    if transition.ends:
        values |= {"expires_at": None, "lease_until": None, "waiting": False}
        values["usage"] = await _total_usage(session, run_id)
    statement = (
        update(Run)
        .where(col(Run.id) == run_id, col(Run.status).in_(transition.sources), *where)
        .values(status=transition.target, **values)
        .returning(Run)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await session.exec(statement)).scalar_one_or_none()


async def end(
    session: AsyncSession,
    run_id: str,
    transition: Transition,
    now: float,
    *where: ColumnElement[bool],
) -> Ended | None:
    """Performs a transition that ends the run, and ends what it has open. None as in `apply`."""
    # Whoever held it has lost it; and events are numbered by it (see service/runner/bus.py).
    run = await apply(session, run_id, transition, now, *where, attempt=Run.attempt + 1)
    if run is None:
        return None
    status = ENDS_STEP[transition.target]
    steps = await open_steps(session, run_id)
    for step in steps:
        step.status = status
        setattr(step, f"{status}_at", int(now))
    messages = await open_messages(session, run_id)
    for message in messages:
        message.status = MessageStatus.incomplete
        message.incomplete_at = int(now)
        message.incomplete_reason = ENDS_MESSAGE[transition.target]
    # A thread that is being deleted takes the runs that wait with it.
    released = None if transition is DISCARD else await release_next(session, run.thread_id, now)
    return Ended(run, steps, messages, released)


async def release_next(session: AsyncSession, thread_id: str, now: float) -> Run | None:
    """Releases the run that waits next in a locked thread whose active run has ended.

    From now on it may be executed, its lifetime counts, and what it reads is settled: all that the
    thread has. Returns it, or None where none waits.
    """
    last_position = select(Thread.last_position).where(Thread.id == thread_id).scalar_subquery()
    next_one = (
        select(Run.id)
        .where(Run.thread_id == thread_id, col(Run.waiting), Run.status == RunStatus.queued)
        .order_by(Run.position)
        .limit(1)
        .scalar_subquery()
    )
    other = aliased(Run)
    active = exists().where(
        col(other.thread_id) == thread_id,
        col(other.status).in_(ACTIVE),
        col(other.waiting).is_(False),
    )
    statement = (
        update(Run)
        .where(col(Run.id) == next_one, ~active)
        .values(
            waiting=False,
            queued_at=now,
            # It was set as if the run had been released when it was created.
            expires_at=int(now) + col(Run.expires_at) - col(Run.created_at),
            context_until=last_position,
        )
        .returning(Run)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await session.exec(statement)).scalar_one_or_none()


async def open_steps(session: AsyncSession, run_id: str) -> list[RunStep]:
    """Returns the run's steps in progress, in order."""
    statement = (
        select(RunStep)
        .where(RunStep.run_id == run_id, RunStep.status == StepStatus.in_progress)
        .order_by(RunStep.position)
    )
    return list((await session.exec(statement)).all())


async def open_messages(session: AsyncSession, run_id: str) -> list[Message]:
    """Returns the run's messages in progress, in order."""
    statement = (
        select(Message)
        .where(Message.run_id == run_id, Message.status == MessageStatus.in_progress)
        .order_by(Message.position)
    )
    return list((await session.exec(statement)).all())


async def _total_usage(session: AsyncSession, run_id: str) -> dict[str, int]:
    statement = select(RunStep.usage).where(RunStep.run_id == run_id)
    reported = [usage for usage in (await session.exec(statement)).all() if usage]
    return {
        key: sum(usage[key] for usage in reported)
        for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
