"""Finding a thread, and the row lock that every write to one takes first."""

from typing import Any

import sqlalchemy as sa

from storage import clock, tables
from storage.errors import NotFound
from storage.lookup import by_id
from storage.rows import Thread, table
from storage.statements import Statement, param, project
from storage.tables import HOLDS_THREAD
from storage.transaction import Transaction

_THREADS = table(tables.Thread)
_RUNS = table(tables.Run)

_ONE = sa.select(_THREADS).where(_THREADS.c.project_id == project(), _THREADS.c.id == param("id"))
FIND = Statement(_ONE, Thread)
LOCK = Statement(_ONE.with_for_update(), Thread)
PARENT: Statement[Any] = Statement(
    sa.select(_RUNS.c.project_id, _RUNS.c.thread_id).where(_RUNS.c.id == param("id"))
)
# Behind the lock, and not in one statement with it: that would see what was before the wait.
STATE: Statement[Any] = Statement(
    sa.select(
        clock.now(),
        sa.select(_RUNS.c.id)
        .where(_RUNS.c.thread_id == param("thread_id"), HOLDS_THREAD)
        .scalar_subquery(),
    )
)
ADVANCE: Statement[Any] = Statement(
    sa.update(_THREADS)
    .where(_THREADS.c.id == param("id"))
    .values(
        last_position=sa.case(
            (_THREADS.c.last_position > param("last", _THREADS.c.last_position),
             _THREADS.c.last_position),
            else_=param("last", _THREADS.c.last_position),
        )
    )
)  # fmt: skip


def find(tx: Transaction, thread_id: str) -> Thread:
    """Returns a thread of the project without locking it. Raises NotFound."""
    return by_id(tx, FIND, "thread", thread_id)


def lock(tx: Transaction, thread_id: str, **project: str) -> Thread:
    """Returns a thread, its row locked until the transaction ends. Raises NotFound.

    The first thing that a transaction does which writes to the thread, its messages, its runs or
    their steps: it puts such transactions in one order. Whoever works on all projects says which.
    """
    return by_id(tx, LOCK, "thread", thread_id, **project)


def lock_of(tx: Transaction, run_id: str) -> Thread | None:
    """Returns the locked thread of a run of any project, or None when one of them was deleted."""
    # Not the run's row: read ahead of the lock, it would be out of date behind it.
    if (parent := tx.one(PARENT, id=run_id)) is None:
        return None
    project_id, thread_id = parent
    try:
        return lock(tx, thread_id, project_id=project_id)
    except NotFound:
        return None


def state(tx: Transaction, thread: Thread) -> tuple[float, str | None]:
    """Returns the database's time, and the id of the run that holds the locked thread, if any."""
    found = tx.one(STATE, thread_id=thread.id)
    assert found is not None
    return float(found[0]), found[1]


def advance(tx: Transaction, thread: Thread) -> None:
    """Writes the last position that was given in the thread, unless a greater one is there."""
    tx.run(ADVANCE, id=thread.id, last=thread.last_position)
