"""How the databases find what is asked for: by an index, however much there is besides.

Each statement that storage can execute is explained. None may read a whole table, or a whole index,
or sort what it has found, but those that are named here with the reason why that stays cheap.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import sqlalchemy as sa

import storage as package
from storage import Storage, ids, rows, tables
from storage.pages import List
from storage.statements import Statement
from storage.transaction import Transaction
from tests.storage.everything import do_everything
from tests.storage.recording import plan, transactions
from tests.storage.rows import execute, fetch

NEVER_EXECUTED = {
    "transitions.END_STEPS[failed]",
    "transitions.END_STEPS[incomplete]",
}
"""Ends that only a worker gives a run, in statements of its own."""

COLD = {
    "sweep.COUNTS": "every few seconds; reads an index of the runs that have not ended, all of it",
}
"""What may read or sort all of something, and why."""

USES = {
    "messages.LIST_OF_RUN": "messages_by_run",
    "context.NEWEST": "messages_by_context",
    "context.EARLIER": "messages_by_context",
    "sweep.QUEUED": "active_runs",
    "sweep.ORPHANED": "active_runs",
    "sweep.CANCELLING": "active_runs",
    "sweep.EXPIRED": "runs_by_expiry",
    "sweep.OLDEST": "active_runs",
    "thread_lock.STATE": "one_active_run_per_thread",
    "transitions.RELEASE": "waiting_runs",
}
"""The indexes of statements for which another would do, too, but by a longer way."""

MANY = 2000

Named = dict[str, Statement[Any]]


def _declared() -> Named:
    """Returns the statements that modules of storage hold, those of pages in every shape."""
    found: Named = {}
    for module in pkgutil.iter_modules(package.__path__):
        for name, value in vars(importlib.import_module(f"storage.{module.name}")).items():
            found |= {
                f"{module.name}.{each}": statement for each, statement in _statements(name, value)
            }
    # Imported from one module into others, it is one all the same.
    unique = {id(statement): name for name, statement in reversed(found.items())}
    return {name: found[name] for name in unique.values()}


def _statements(name: str, value: Any) -> Iterator[tuple[str, Statement[Any]]]:
    match value:
        case Statement():
            yield name, value
        case dict():
            for key, each in value.items():
                yield from _statements(f"{name}[{key}]", each)
        case List():
            yield f"{name}.position", value._position
            for order, after, before in product(("asc", "desc"), (False, True), (False, True)):
                shape = order == "desc", before and not after, after, before
                yield f"{name}.page{shape}", value._statement(*shape)


def _built(name: str) -> bool:
    """Whether a statement is built when it is needed, in whatever shape."""
    return ".page(" in name or name.endswith(".position") or "._" in name


async def _executed(storage: Storage) -> Named:
    """Executes all statements, and returns them by their names."""
    with transactions() as ended:
        await do_everything(storage)
    executed = {id(each) for transaction in ended for each, _ in transaction.statements}
    declared = _declared()
    missed = {name for name, each in declared.items() if id(each) not in executed}
    assert {name for name in missed if not _built(name)} == NEVER_EXECUTED
    return declared


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
