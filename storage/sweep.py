"""The reconciler's side of the database: runs that nobody cares for."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, case, func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, thread_lock, transitions
from storage.database import Database, finishing
from storage.tables import ACTIVE, Run, RunStatus
from storage.transitions import Ended

WAITING = "waiting"
"""What a census calls runs that are queued behind another run of their thread."""


class Unattended(NamedTuple):
    """A run that nobody seems to care for."""

    id: str
    assistant_id: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """Runs that nobody seems to care for, oldest first."""

    queued: list[Unattended]
    orphaned: list[Unattended]
    cancelling: list[Unattended]
    expired: list[Unattended]


@dataclass(frozen=True, slots=True)
class Census:
    """How many runs have not ended, and how long the oldest queued one has waited, in seconds."""

    runs: dict[str, int]
    oldest_queued: float


@finishing
class Sweep:
    """Runs as the reconciler sees them. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        self._database = database

    async def end(self, run_id: str, status: RunStatus) -> Ended | None:
        """Ends a run that no live lease holds: `cancelling` as cancelled, overdue ones as expired.

        Returns None when there is nothing to do any more.
        """
        async with self._database.transaction() as session:
            if await thread_lock.lock_of(session, run_id) is None:
                return None
            now = await clock.read(session)
            unowned = or_(col(Run.lease_until).is_(None), col(Run.lease_until) <= now)
            if status == RunStatus.cancelled:
                where = [unowned, col(Run.status) == RunStatus.cancelling]
                return await transitions.end(session, run_id, transitions.CANCEL, now, *where)
            # The lifetime of a run that waits behind another has not begun.
            where = [unowned, col(Run.expires_at) <= now, col(Run.waiting).is_(False)]
            return await transitions.end(session, run_id, transitions.EXPIRE, now, *where)

    async def census(self) -> Census:
        """Counts the runs that have not ended, by status; those that wait behind others apart."""
        async with self._database.read() as session:
            status = case((col(Run.waiting), WAITING), else_=col(Run.status))
            # Said as the partial index says it, so that ended runs are not even looked at.
            counts = select(status, func.count()).where(col(Run.expires_at).is_not(None))
            runs = {name: count for name, count in await session.exec(counts.group_by(status))}
            oldest = select(clock.now() - func.min(Run.queued_at)).where(
                col(Run.expires_at).is_not(None),
                col(Run.status) == RunStatus.queued,
                col(Run.waiting).is_(False),
            )
            return Census(runs, float((await session.exec(oldest)).one() or 0.0))

    async def overdue(self, queued_for: float) -> Overdue:
        """Returns what waits for the reconciler; queued runs only after `queued_for` seconds."""
        now = clock.now()
        unowned = or_(col(Run.lease_until).is_(None), col(Run.lease_until) <= now)
        async with self._database.read() as session:
            return Overdue(
                queued=await _find(
                    session,
                    col(Run.status) == RunStatus.queued,
                    col(Run.waiting).is_(False),
                    col(Run.queued_at) <= now - queued_for,
                    col(Run.expires_at) > now,
                ),
                orphaned=await _find(
                    session,
                    col(Run.status) == RunStatus.in_progress,
                    col(Run.lease_until) <= now,
                    col(Run.expires_at) > now,
                ),
                cancelling=await _find(session, col(Run.status) == RunStatus.cancelling, unowned),
                expired=await _find(
                    session,
                    col(Run.status).in_(ACTIVE),
                    col(Run.waiting).is_(False),
                    col(Run.expires_at) <= now,
                    unowned,
                ),
            )


async def _find(session: AsyncSession, *where: ColumnElement[bool]) -> list[Unattended]:
    # Without what the partial index says, each round would read every run there ever was.
    columns = select(Run.id, Run.assistant_id).where(col(Run.expires_at).is_not(None), *where)
    # No more than a round can work off: the next round sees the rest.
    found = await session.exec(columns.order_by(col(Run.queued_at)).limit(1000))
    return [Unattended(*row) for row in found]
