"""The reconciler's side of the database: runs that nobody cares for."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, thread_lock, transitions
from storage.database import Database
from storage.tables import ACTIVE, Run, RunStatus
from storage.transitions import Ended


@dataclass(frozen=True, slots=True)
class Overdue:
    """Ids of runs that nobody seems to care for, oldest first."""

    queued: list[str]
    orphaned: list[str]
    cancelling: list[str]
    expired: list[str]


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
            where = [unowned, col(Run.expires_at) <= now]
            return await transitions.end(session, run_id, transitions.EXPIRE, now, *where)

    async def overdue(self, queued_for: float) -> Overdue:
        """Returns what waits for the reconciler; queued runs only after `queued_for` seconds."""
        now = clock.now()
        unowned = or_(col(Run.lease_until).is_(None), col(Run.lease_until) <= now)
        async with self._database.read() as session:
            return Overdue(
                queued=await _ids(
                    session,
                    col(Run.status) == RunStatus.queued,
                    col(Run.waiting).is_(False),
                    col(Run.queued_at) <= now - queued_for,
                    col(Run.expires_at) > now,
                ),
                orphaned=await _ids(
                    session,
                    col(Run.status) == RunStatus.in_progress,
                    col(Run.lease_until) <= now,
                    col(Run.expires_at) > now,
                ),
                cancelling=await _ids(session, col(Run.status) == RunStatus.cancelling, unowned),
                expired=await _ids(
                    session,
                    col(Run.status).in_(ACTIVE),
                    col(Run.waiting).is_(False),
                    col(Run.expires_at) <= now,
                    unowned,
                ),
            )


async def _ids(session: AsyncSession, *where: ColumnElement[bool]) -> list[str]:
    # Oldest first, and no more than a round can work off: the next round sees the rest.
    statement = select(Run.id).where(*where).order_by(col(Run.queued_at)).limit(1000)
    return list((await session.exec(statement)).all())
