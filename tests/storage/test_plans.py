"""How the databases find what is asked for: by an index, however much there is besides.

Each statement that storage can execute is explained. None may read a whole table, or a whole index,
or sort what it has found, but those that are named here with the reason why that stays cheap.
"""

from functools import partial
from typing import Any

import sqlalchemy as sa

from storage import Storage, ids, rows, tables
from storage.transaction import Transaction
from tests.support.storage.declared import Named, declared, is_built
from tests.support.storage.everything import do_everything
from tests.support.storage.recording import plan, transactions
from tests.support.storage.rows import execute, fetch

NEVER_EXECUTED = {
    "transitions.END_STEPS[failed]",
    "transitions.END_STEPS[incomplete]",
}
"""Ends that only a worker gives a run, in statements of its own."""

COLD = {
    "keys.VALID": "once for each change of keys; there are few",
    "keys.LIST": "for operators",
    "keys.PROJECTS": "for operators",
    "quotas.FORGET": "at the start of a server",
    "stale_runs.COUNTS": "every few seconds; reads an index, of all runs that have not ended",
}
"""What may read or sort all of something, and why."""

USES = {
    "messages.LIST_OF_RUN": "messages_by_run",
    "conversation.NEWEST": "messages_by_context",
    "conversation.EARLIER": "messages_by_context",
    "quotas.UNENDED_RUNS": "unended_runs_by_project",
    "stale_runs.QUEUED": "active_runs",
    "stale_runs.ORPHANED": "active_runs",
    "stale_runs.CANCELLING": "active_runs",
    "stale_runs.OVERDUE": "runs_by_expiry",
    "stale_runs.OLDEST": "active_runs",
    "thread_lock.STATE": "one_active_run_per_thread",
    "transitions.RELEASE": "waiting_runs",
}
"""The indexes of statements for which another would do, too, but by a longer way."""

MANY = 2000


async def _executed(storage: Storage) -> Named:
    """Executes all statements, and returns them by their names."""
    with transactions() as ended:
        await do_everything(storage)
    executed = {id(each) for transaction in ended for each, _ in transaction.statements}
    known = declared()
    never_executed = {name for name, each in known.items() if id(each) not in executed}
    assert {name for name in never_executed if not is_built(name)} == NEVER_EXECUTED
    return known


async def _fill(storage: Storage) -> None:
    """Multiplies what there is of everything, and has the database count it."""
    for row in (rows.Assistant, rows.Thread, rows.Message, rows.Run, rows.RunStep):
        table = rows.table(getattr(tables, row.__name__))
        [one] = await fetch(storage, sa.select(table).limit(1), row)
        ended = {"status": "completed", "expires_at": None, "waiting": False}
        values = rows.values(one)
        values |= {name: value for name, value in ended.items() if name in values}
        positions = [ids.new_position() for _ in range(MANY)]
        copies = [row(**values | {"id": f"{at}", "position": at}) for at in positions]
        await storage.database.write(partial(_insert, copies))
    if storage.database.url.get_backend_name() == "postgresql":
        await execute(storage, sa.text("ANALYZE"))


def _insert(copies: list[Any], tx: Transaction) -> None:
    tx.insert(*copies)


async def test_each_statement_takes_the_shortest_way(storage: Storage) -> None:
    statements = await _executed(storage)
    await _fill(storage)
    plans = {name: plan(storage, statement) for name, statement in statements.items()}
    found = {name: each.lines for name, each in plans.items() if each.scans or each.sorts}
    assert found.keys() == COLD.keys(), found
    for name, each in plans.items():
        index = USES.get(name.partition(".page")[0])
        assert index is None or index in each.indexes, (name, each.lines)
