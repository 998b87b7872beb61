"""The run engine's side of the database: claiming runs, and writing under a claim.

A claim is an attempt at a run with a lease. Every write of an attempt first renews its lease, on
the condition that the attempt still holds the run: so an attempt that lost its claim can change
nothing any more, not even one whose run the same worker claimed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, or_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, ids, thread_lock, transitions
from storage.database import Database, finishing
from storage.errors import ClaimLost, NotFound
from storage.messages import PORTION
from storage.tables import (
    Message,
    MessageStatus,
    Run,
    RunStatus,
    RunStep,
    StepStatus,
    Thread,
)

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


@dataclass(frozen=True, slots=True)
class Context:
    """What a model is shown: the thread's messages, then what the run itself did, oldest first."""

    messages: list[Message]
    steps: list[RunStep]
    step_messages: dict[str, Message]
    """The messages that the steps wrote, by id."""


@finishing
class Claims:
    """Runs as workers see them. Each method is one transaction."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        """Works on `database`; a claim holds for `lease_seconds` unless renewed."""
        self._database = database
        self._lease = lease_seconds

    async def claim(self, run_id: str) -> Claim | None:
        """Claims a run that is queued, or in progress with an expired lease; else returns None.

        What a dead attempt left open is deleted, and returned with the claim.
        """
        async with self._database.transaction() as session:
            if await thread_lock.lock_of(session, run_id) is None:
                return None
            now = await clock.read(session)
            before = (await session.exec(select(Run.status).where(Run.id == run_id))).one_or_none()
            run = await transitions.apply(
                session,
                run_id,
                transitions.CLAIM,
                now,
                col(Run.waiting).is_(False),
                col(Run.expires_at) > now,
                or_(col(Run.status) == RunStatus.queued, col(Run.lease_until) <= now),
                attempt=Run.attempt + 1,
                lease_until=now + self._lease,
            )
            if run is None:
                return None
            withdrawn = await _withdraw(session, run_id)
            return Claim(run, run.attempt, withdrawn, before == RunStatus.in_progress)

    async def renew(self, claim: Claim) -> RunStatus:
        """Renews the lease; returns `in_progress` or `cancelling`. Raises ClaimLost."""
        async with self._database.transaction() as session:
            status = await self._extend(session, claim)
        if status is None:
            raise ClaimLost(claim.run.id)
        return RunStatus(status)

    async def held(self, claims: Sequence[Claim]) -> dict[str, RunStatus]:
        """Returns the statuses of those runs, by id, that are still held by the given claims."""
        attempts = {claim.run.id: claim.attempt for claim in claims}
        statement = select(Run.id, Run.status, Run.attempt).where(
            col(Run.id).in_(attempts), col(Run.status).in_(HELD)
        )
        async with self._database.read() as session:
            return {
                run_id: RunStatus(status)
                for run_id, status, attempt in await session.exec(statement)
                if attempts[run_id] == attempt
            }

    async def release(self, claim: Claim) -> Withdrawn:
        """Gives the run back, for anybody to claim at once. Raises ClaimLost."""
        async with self._database.transaction() as session:
            await self._guard(session, claim)
            # The next attempt's number already: whoever still writes under this one lost the claim.
            values = {"lease_until": 0.0, "attempt": Run.attempt + 1}
            await session.exec(update(Run).where(*_held(claim)).values(**values))
            return await _withdraw(session, claim.run.id)

    async def start_message(
        self, claim: Claim, ahead_of: RunStep | None = None
    ) -> tuple[RunStep, Message]:
        """Opens a step that writes a message, and the empty message. Raises ClaimLost.

        They stand ahead of the step of calls `ahead_of`, if given, although they begin later.
        """
        async with self._database.transaction() as session:
            thread = await self._guard(session, claim)
            now = int(await clock.read(session))
            # The step comes first in the thread, and names the message that follows it.
            if ahead_of is not None:
                first, second = (ids.ahead_of(ahead_of.position, by) for by in (2, 1))
            else:
                first = ids.next_position(thread.last_position)
                thread.last_position = second = ids.next_position(first)
            step = _new_step(claim.run, first, now, {"type": "message_creation"})
            message = Message(
                id=ids.make_id(ids.MESSAGE, second),
                project_id=claim.run.project_id,
                thread_id=thread.id,
                position=second,
                created_at=now,
                status=MessageStatus.in_progress,
                role="assistant",
                content=[],
                attachments=[],
                metadata_={},
                assistant_id=claim.run.assistant_id,
                run_id=claim.run.id,
            )
            step.step_details = {
                "type": "message_creation",
                "message_creation": {"message_id": message.id},
            }
            session.add_all([step, message])
        return step, message

    async def start_tool_calls(self, claim: Claim) -> RunStep:
        """Opens a step that calls tools, without calls yet. Raises ClaimLost."""
        async with self._database.transaction() as session:
            thread = await self._guard(session, claim)
            now = int(await clock.read(session))
            # A message that the model comes to after them is to stand ahead of them.
            thread.last_position = ids.next_position(thread.last_position, room=2)
            details: dict[str, Any] = {"type": "tool_calls", "tool_calls": []}
            step = _new_step(claim.run, thread.last_position, now, details)
            session.add(step)
        return step

    async def save(
        self,
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
        async with self._database.transaction() as session:
            await self._guard(session, claim, may_be)
            now = await clock.read(session)
            saved_message = await _end_message(session, message, int(now)) if message else None
            saved_steps = [await _end_step(session, step, int(now)) for step in steps]
            await session.flush()
            saved_run = released = None
            withdrawn = Withdrawn([], [])
            if run is not None:
                saved_run = await transitions.apply(
                    session,
                    claim.run.id,
                    transitions.BY_WORKER[run.status],
                    now,
                    *_held(claim),
                    last_error=run.last_error,
                    incomplete_reason=run.incomplete_reason,
                    lease_until=None,
                )
                if saved_run is None:
                    raise ClaimLost(claim.run.id)
                if transitions.BY_WORKER[run.status].ends:
                    # Begun without its knowledge: the answer to that commit was lost.
                    withdrawn = await _withdraw(session, saved_run.id)
                    released = await transitions.release_next(session, saved_run.thread_id, now)
        return Saved(saved_message, saved_steps, saved_run, released, withdrawn)

    async def context(self, run: Run, last_messages: int | None = None) -> Context:
        """Returns what the run's model may read; of the thread, if given, only the last n."""
        async with self._database.read() as session:
            # An answer belongs behind what its run had read, not behind messages that were added
            # while it was written.
            read_until = func.coalesce(Run.context_until, Message.position)
            statement = (
                select(Message)
                .outerjoin(Run, col(Run.id) == col(Message.run_id))
                .where(
                    Message.thread_id == run.thread_id,
                    Message.position <= run.context_until,
                    Message.status != MessageStatus.in_progress,
                )
                .order_by(read_until.desc(), col(Message.position).desc())
                .limit(last_messages)
            )
            # In portions, between which others have their turn: threads may be very long.
            found = await session.stream_scalars(statement.execution_options(yield_per=PORTION))
            messages = [message async for message in found]
            steps = await session.exec(
                select(RunStep).where(RunStep.run_id == run.id).order_by(RunStep.position)
            )
            written = await session.exec(select(Message).where(Message.run_id == run.id))
            return Context(
                messages[::-1], list(steps.all()), {each.id: each for each in written.all()}
            )

    async def _guard(
        self,
        session: AsyncSession,
        claim: Claim,
        may_be: Sequence[RunStatus] = (RunStatus.in_progress,),
    ) -> Thread:
        """Locks the run's thread and renews the lease. Raises ClaimLost."""
        try:
            thread = await thread_lock.lock(session, claim.run.project_id, claim.run.thread_id)
        except NotFound as error:
            raise ClaimLost(claim.run.id) from error
        if await self._extend(session, claim) not in may_be:
            raise ClaimLost(claim.run.id)
        return thread

    async def _extend(self, session: AsyncSession, claim: Claim) -> RunStatus | None:
        """Renews the lease of a claim that still holds its run."""
        statement = (
            update(Run)
            .where(*_held(claim), col(Run.status).in_(HELD))
            .values(lease_until=clock.now() + self._lease)
            .returning(col(Run.status))
            .execution_options(synchronize_session=False)
        )
        return (await session.exec(statement)).scalar_one_or_none()


def _held(claim: Claim) -> list[ColumnElement[bool]]:
    return [col(Run.id) == claim.run.id, col(Run.attempt) == claim.attempt]


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


async def _withdraw(session: AsyncSession, run_id: str) -> Withdrawn:
    steps = await transitions.open_steps(session, run_id)
    # A message is open only as long as the step that writes it.
    messages = await transitions.open_messages(session, run_id) if steps else []
    for row in [*steps, *messages]:
        await session.delete(row)
    return Withdrawn(steps, messages)


async def _end_message(session: AsyncSession, end: MessageEnd, now: int) -> Message | None:
    message = (await session.exec(select(Message).where(Message.id == end.id))).one_or_none()
    # A caller may have deleted the message while it was being written. The run goes on.
    if message is None:
        return None
    message.content = end.content
    if end.incomplete_reason is None:
        message.status, message.completed_at = MessageStatus.completed, now
    else:
        message.status, message.incomplete_at = MessageStatus.incomplete, now
        message.incomplete_reason = end.incomplete_reason
    return message


async def _end_step(session: AsyncSession, end: StepEnd, now: int) -> RunStep:
    step = (await session.exec(select(RunStep).where(RunStep.id == end.id))).one()
    if end.step_details is not None:
        step.step_details = end.step_details
    if end.usage is not None:
        step.usage = end.usage
    if end.replay is not None:
        step.replay = end.replay
    step.last_error = end.last_error
    step.status = end.status
    if end.status != StepStatus.in_progress:
        setattr(step, f"{end.status}_at", now)
    return step
