"""Runs that wait for the files of their thread: until all have been indexed, or for a minute.

Meanwhile they are queued, and no worker can claim them.
"""

from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.dialects import in_list
from storage.resources import store_ids
from storage.rows import Run, Thread, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

LONGEST = 60.0
"""Seconds that a run waits, from when it was queued first, or released."""

_STORES = table(tables.VectorStore)
_RUNS = table(tables.Run)

INDEXING: Statement[Any] = Statement(
    sa.select(_STORES.c.id)
    .where(
        _STORES.c.project_id == project(),
        in_list(_STORES.c.id, "ids"),
        _STORES.c.in_progress > sa.literal(0),
    )
    .limit(sa.literal(1))
)
RUN = Statement(sa.select(_RUNS).where(_RUNS.c.id == param("id")), Run)


def waits(tx: Transaction, run: Run, thread: Thread, now: float) -> bool:
    """Returns whether a queued run of a locked thread is to wait; its row may not be written yet.

    What was begun waits no more: with tool outputs, a run goes on at once.
    """
    stores = store_ids(thread.tool_resources)
    if not stores or run.started_at is not None or now >= run.queued_at + LONGEST:
        return False
    if not any(tool["type"] == "file_search" for tool in run.tools):
        return False
    return tx.one(INDEXING, ids=stores, project_id=run.project_id) is not None


def check(tx: Transaction, run_id: str, thread: Thread, now: float) -> Run | None:
    """Returns a run that is to wait; None for one that need not."""
    if not store_ids(thread.tool_resources) or (run := tx.one(RUN, id=run_id)) is None:
        return None
    return run if waits(tx, run, thread, now) else None
