"""How SQLite finds what is asked for again and again: by an index, however many runs have ended."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage import Storage
from storage.database import Database
from tests.storage.recording import Executed, plan, statements
from tests.storage.rows import PROJECT, make_thread, user


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Storage]:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    await database.migrate()
    yield Storage(database)
    await database.close()


def plans(storage: Storage, executed: Executed) -> list[str]:
    """Returns the steps of the plans of what was read from runs."""
    steps: list[str] = []
    for sql, params in executed:
        if "FROM runs" in sql:
            steps += [line for line in plan(storage, sql, params) if "runs" in line]
    return steps


async def test_the_reconciler_reads_no_run_that_has_ended(on_sqlite: Storage) -> None:
    with statements() as executed:
        await on_sqlite.sweep.overdue(0)
        await on_sqlite.sweep.census()
    found = plans(on_sqlite, executed)
    assert len(found) == 6
    assert all("active_runs" in step for step in found), found


async def test_the_active_run_is_found_among_many(on_sqlite: Storage) -> None:
    thread = await make_thread(on_sqlite)
    with statements() as executed:
        await on_sqlite.messages.create(PROJECT, thread.id, user("Hi"))
    assert plans(on_sqlite, executed) == [
        "SEARCH runs USING INDEX one_active_run_per_thread (thread_id=?)"
    ]
