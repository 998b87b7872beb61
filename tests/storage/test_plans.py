"""How SQLite finds what is asked for again and again: by an index, however many runs have ended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from storage import Storage, thread_lock
from storage.database import Database
from tests.storage.rows import PROJECT, make_thread


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Storage]:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    await database.migrate()
    yield Storage(database)
    await database.close()


@asynccontextmanager
async def statements(database: Database) -> AsyncIterator[list[tuple[str, Any]]]:
    """Gives the list of the statements that are executed meanwhile, with their parameters."""
    executed: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        executed.append((statement, parameters))

    connection = await database.connect()
    engine = connection.sync_connection.engine  # type: ignore[union-attr]
    event.listen(engine, "before_cursor_execute", note)
    yield executed
    event.remove(engine, "before_cursor_execute", note)
    await connection.close()


async def plans(database: Database, executed: list[tuple[str, Any]]) -> list[str]:
    """Returns the steps of the plans of what was read from runs."""
    steps: list[str] = []
    async with database.read() as session:
        connection = await session.connection()
        for statement, parameters in executed:
            if "FROM runs" in statement:
                plan = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
                steps += [row.detail for row in plan if "runs" in row.detail]
    return steps


async def test_the_reconciler_reads_no_run_that_has_ended(on_sqlite: Storage) -> None:
    async with statements(on_sqlite.database) as executed:
        await on_sqlite.sweep.overdue(0)
        await on_sqlite.sweep.census()
    found = await plans(on_sqlite.database, executed)
    assert len(found) == 6
    assert all("active_runs" in step for step in found), found


async def test_the_active_run_is_found_among_many(on_sqlite: Storage) -> None:
    thread = await make_thread(on_sqlite)
    async with statements(on_sqlite.database) as executed, on_sqlite.database.read() as session:
        await thread_lock.active_run(session, await thread_lock.find(session, PROJECT, thread.id))
    assert await plans(on_sqlite.database, executed) == [
        "SEARCH runs USING INDEX one_active_run_per_thread (thread_id=?)"
    ]
