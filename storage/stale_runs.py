"""The reconciler's side of the database: runs that are lost, orphaned, cancelled or overdue."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from storage import clock, tables, thread_lock, transitions
from storage.repository import Repository, reads_all, writes_all
from storage.rows import table
from storage.statements import Statement, one_of, param
from storage.tables import ACTIVE, UNENDED, RunStatus
from storage.transaction import Transaction
from storage.transitions import Ended

WAITING = "waiting"
"""The census's name for runs that are queued behind another run of their thread."""


class StaleRun(NamedTuple):
    """A run that no worker seems to hold."""

    id: str
    assistant_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Stale:
    """Runs that no worker seems to hold, by kind; the oldest of each kind come first."""

    queued: list[StaleRun]
    """They may have been lost on their way to a worker."""
    orphaned: list[StaleRun]
    """Their worker's lease ran out."""
    cancelling: list[StaleRun]
    """They are to be ended as cancelled, and no worker does."""
    overdue: list[StaleRun]
    """They are to be ended as expired."""


@dataclass(frozen=True, slots=True)
class Census:
    """How many runs have not ended, and how long the oldest queued one has waited, in seconds."""

    runs: dict[str, int]
    oldest_queued: float


_RUNS = table(tables.Run)
AT_ONCE = 1000
"""Runs of a kind that are found at once: no more than one round can handle."""

# Read once: by a time that goes on meanwhile, PostgreSQL would search no index.
_NOW = sa.select(clock.now()).scalar_subquery()
_READY = _RUNS.c.waiting.is_(sa.false())
COUNTS: Statement[Any] = Statement(
    sa.select(_RUNS.c.status, _RUNS.c.waiting, sa.func.count())
    .where(UNENDED)
    .group_by(_RUNS.c.status, _RUNS.c.waiting)
)
OLDEST: Statement[Any] = Statement(
    sa.select(clock.now() - sa.func.min(_RUNS.c.queued_at)).where(
        UNENDED, one_of(_RUNS.c.status, [RunStatus.queued]), _READY
    )
)


def _find(*where: sa.ColumnElement[bool], by: Sequence[sa.ColumnElement[Any]]) -> Statement[Any]:
    """Returns the statement that finds the first unended runs in the order of an index."""
    return Statement(
        sa.select(_RUNS.c.id, _RUNS.c.assistant_id, _RUNS.c.attempt)
        .where(UNENDED, *where)
        .order_by(*by)
        .limit(sa.literal(AT_ONCE))
    )


_UNOWNED = sa.or_(_RUNS.c.lease_until.is_(None), _RUNS.c.lease_until <= _NOW)
QUEUED = _find(
    one_of(_RUNS.c.status, [RunStatus.queued]),
    _READY,
    _RUNS.c.queued_at <= _NOW - param("queued_for", sa.column("", sa.Float(53))),
    _RUNS.c.expires_at > _NOW,
    by=[_RUNS.c.queued_at],
)
ORPHANED = _find(
    one_of(_RUNS.c.status, [RunStatus.in_progress]),
    _RUNS.c.lease_until <= _NOW,
    _RUNS.c.expires_at > _NOW,
    by=[_RUNS.c.waiting, _RUNS.c.queued_at],
)
CANCELLING = _find(
    one_of(_RUNS.c.status, [RunStatus.cancelling]),
    _UNOWNED,
    by=[_RUNS.c.waiting, _RUNS.c.queued_at],
)
OVERDUE = _find(
    one_of(_RUNS.c.status, ACTIVE),
    _READY,
    _RUNS.c.expires_at <= _NOW,
    _UNOWNED,
    by=[_RUNS.c.expires_at],
)


class StaleRuns(Repository):
    """Runs that no worker seems to hold, of all projects. Each method is one transaction."""

    @writes_all
    def end(self, tx: Transaction, run_id: str, status: RunStatus) -> Ended | None:
        """Ends a run that no live lease holds: `cancelling` as cancelled, overdue ones as expired.

        Returns None when the run has ended meanwhile, or is held.
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
        runs: Counter[str] = Counter()
        for status, waiting, number in tx.all(COUNTS):
            runs[WAITING if waiting else status] += number
        return Census(dict(runs), float(tx.value(OLDEST) or 0.0))

    @reads_all
    def find(self, tx: Transaction, queued_for: float) -> Stale:
        """Returns the stale runs; those that are queued only after `queued_for` seconds."""

        def found(statement: Statement[Any], **params: Any) -> list[StaleRun]:
            return [StaleRun(*row) for row in tx.all(statement, **params)]

        return Stale(
            queued=found(QUEUED, queued_for=queued_for),
            orphaned=found(ORPHANED),
            cancelling=found(CANCELLING),
            overdue=found(OVERDUE),
        )
