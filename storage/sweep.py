"""The reconciler's side of the database: runs that nobody cares for."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from storage import clock, tables, thread_lock, transitions
from storage.repository import Repository, reads_all, writes_all
from storage.rows import table
from storage.statements import Statement, one_of, param
from storage.tables import ACTIVE, RunStatus
from storage.transaction import Transaction
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


_RUNS = table(tables.Run)
AT_ONCE = 1000
"""Runs of a kind that are found at once: no more than a round can work off."""

# Said as the partial index says it, so that ended runs are not even looked at.
_UNENDED = _RUNS.c.expires_at.is_not(None)
_STATUS = sa.case((_RUNS.c.waiting, sa.literal(WAITING)), else_=_RUNS.c.status)
COUNTS: Statement[Any] = Statement(
    sa.select(_STATUS, sa.func.count()).where(_UNENDED).group_by(_STATUS)
)
OLDEST: Statement[Any] = Statement(
    sa.select(clock.now() - sa.func.min(_RUNS.c.queued_at)).where(
        _UNENDED,
        one_of(_RUNS.c.status, [RunStatus.queued]),
        _RUNS.c.waiting.is_(sa.false()),
    )
)


def _find(*where: sa.ColumnElement[bool]) -> Statement[Any]:
    """Returns the statement that finds unended runs, oldest first."""
    return Statement(
        sa.select(_RUNS.c.id, _RUNS.c.assistant_id)
        .where(_UNENDED, *where)
        .order_by(_RUNS.c.queued_at)
        .limit(sa.literal(AT_ONCE))
    )


_NOW = clock.now()
_UNOWNED = sa.or_(_RUNS.c.lease_until.is_(None), _RUNS.c.lease_until <= _NOW)
QUEUED = _find(
    one_of(_RUNS.c.status, [RunStatus.queued]),
    _RUNS.c.waiting.is_(sa.false()),
    _RUNS.c.queued_at <= _NOW - param("queued_for", sa.column("", sa.Float(53))),
    _RUNS.c.expires_at > _NOW,
)
ORPHANED = _find(
    one_of(_RUNS.c.status, [RunStatus.in_progress]),
    _RUNS.c.lease_until <= _NOW,
    _RUNS.c.expires_at > _NOW,
)
CANCELLING = _find(one_of(_RUNS.c.status, [RunStatus.cancelling]), _UNOWNED)
EXPIRED = _find(
    one_of(_RUNS.c.status, ACTIVE),
    _RUNS.c.waiting.is_(sa.false()),
    _RUNS.c.expires_at <= _NOW,
    _UNOWNED,
)


class Sweep(Repository):
    """Runs as the reconciler sees them, of all projects. Each method is one transaction."""

    @writes_all
    def end(self, tx: Transaction, run_id: str, status: RunStatus) -> Ended | None:
        """Ends a run that no live lease holds: `cancelling` as cancelled, overdue ones as expired.

        Returns None when there is nothing to do any more.
        """
        if thread_lock.lock_of(tx, run_id) is None:
            return None
        now = tx.now()
        if status == RunStatus.cancelled:
            transition, guard = transitions.CANCEL, transitions.CANCELLING_UNOWNED
        else:
            transition, guard = transitions.EXPIRE, transitions.OVERDUE_UNOWNED
        return transitions.end(tx, run_id, transition, now, guard)

    @reads_all
    def census(self, tx: Transaction) -> Census:
        """Counts the runs that have not ended, by status; those that wait behind others apart."""
        return Census(dict(tx.all(COUNTS)), float(tx.value(OLDEST) or 0.0))

    @reads_all
    def overdue(self, tx: Transaction, queued_for: float) -> Overdue:
        """Returns what waits for the reconciler; queued runs only after `queued_for` seconds."""

        def found(statement: Statement[Any], **params: Any) -> list[Unattended]:
            return [Unattended(*row) for row in tx.all(statement, **params)]

        return Overdue(
            queued=found(QUEUED, queued_for=queued_for),
            orphaned=found(ORPHANED),
            cancelling=found(CANCELLING),
            expired=found(EXPIRED),
        )
