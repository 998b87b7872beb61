"""A thread as the database has it, and the comparison with what a model says it must be."""

import math
from dataclasses import dataclass
from typing import Any

from sqlmodel import select

from storage import Storage, rows, tables
from storage.statements import Statement
from storage.tables import Thread as StoredThread
from storage.transaction import Transaction
from tests.support.runs import run_model
from tests.support.runs.run_model import DIAGRAM, FromNow, Past, Row, Thread


@dataclass(frozen=True)
class Snapshot:
    """All rows of a thread by id, and the database's time at which they were read."""

    now: float
    last_position: str | None
    runs: dict[str, Row]
    steps: dict[str, Row]
    messages: dict[str, Row]

    @property
    def rows(self) -> dict[str, Row]:
        """Every row by its id."""
        return self.runs | self.steps | self.messages


async def look(storage: Storage, thread_id: str) -> Snapshot:
    """Reads a thread with all that it holds."""
    last = select(StoredThread.last_position).where(StoredThread.id == thread_id)

    def read(tx: Transaction) -> Snapshot:
        now, last_position = tx.now(), tx.value(Statement(last))
        return Snapshot(
            now,
            last_position,
            *(
                {row.id: rows.values(row) for row in tx.all(_in_thread(kind, thread_id))}
                for kind in (rows.Run, rows.RunStep, rows.Message)
            ),
        )

    return await storage.database.read(read)


def _in_thread(kind: Any, thread_id: str) -> Statement[Any]:
    stored = rows.table(getattr(tables, kind.__name__))
    return Statement(stored.select().where(stored.c.thread_id == thread_id), kind)


def check(thread: Thread, before: Snapshot, after: Snapshot) -> None:
    """Fails unless an operation has made of `before` what the model says, and nothing else.

    The model then knows the times that it did not know.
    """
    expected = rows_of(thread)
    assert after.rows.keys() == expected.keys(), after.rows.keys() ^ expected.keys()
    for id, row in expected.items():
        stored = after.rows[id]
        moved = settle(row, stored, before.now, after.now)
        # The columns that the model does not know of change with those that it does.
        assert (
            moved
            or id not in before.rows
            or _changed(row, before.rows[id])
            or (stored == before.rows[id])
        ), id
    _check_transitions(before, after)
    _check_order(after)
    for run in thread.runs:
        _check_open(run, after)
        until = after.runs[run.id]["context_until"]
        read = {id for id, row in after.messages.items() if row["position"] <= until}
        assert read == run.reads & thread.messages.keys(), (run, read, run.reads)


def rows_of(thread: Thread) -> dict[str, Row]:
    """Every row of the model by its id."""
    steps = [step for run in thread.runs for step in run.steps]
    return {
        **{run.id: run.row for run in thread.runs},
        **{step.id: step.row for step in steps},
        **thread.messages,
    }


def settle(expected: Row, stored: Row, before: float, after: float) -> bool:
    """Compares the columns of `expected`; returns whether times were filled in."""
    filled = False
    for column, value in expected.items():
        found = stored[column]
        match value:
            case FromNow(seconds, whole):
                assert isinstance(found, int) or not whole, (column, found)
                low, high = before + seconds, after + seconds
                assert (math.floor(low) if whole else low) <= found <= high, (column, found, low)
            case Past():
                assert found is not None and found <= after, (column, found)
            case _:
                assert found == value, (column, found, value)
                continue
        expected[column] = found
        filled = True
    return filled


def _changed(expected: Row, before: Row) -> bool:
    return any(before[column] != value for column, value in expected.items())


def _check_transitions(before: Snapshot, after: Snapshot) -> None:
    for id, row in after.runs.items():
        old = before.runs.get(id)
        if old is None:
            # Claimed at once, it was queued for no time.
            assert row["status"] in ("queued", "in_progress")
            continue
        status: Any = row["status"]
        allowed = {old["status"], *DIAGRAM.get(old["status"], ())}
        if old["status"] == "requires_action":
            allowed |= {"in_progress"}
        assert status in allowed, (old, row)
        assert row["attempt"] >= old["attempt"]
        if old["waiting"] and not row["waiting"] and status == "queued":
            # Released: the one that was active has ended in this very moment.
            assert any(
                was["status"] in DIAGRAM and not was["waiting"] and now["status"] not in DIAGRAM
                for was, now in ((before.runs[id], after.runs[id]) for id in before.runs)
            )
        assert row["waiting"] <= old["waiting"]


def _check_order(after: Snapshot) -> None:
    active = [row for row in after.runs.values() if row["status"] in DIAGRAM]
    holding = [row for row in active if not row["waiting"]]
    waiting = [row for row in active if row["waiting"] and row["status"] == "queued"]
    assert len(holding) <= 1
    if waiting:
        [holder] = holding
        assert holder["position"] < min(row["position"] for row in waiting)
    for row in after.runs.values():
        ended = row["status"] not in DIAGRAM
        assert (row["expires_at"] is None) == ended
        assert (row["usage"] is not None) == ended
        for status, column in run_model.STAMPS.items():
            if status != "in_progress":
                assert (row[column] is not None) == (row["status"] == status)


def _check_open(run: run_model.Run, after: Snapshot) -> None:
    """What is in progress belongs to an attempt that may go on with it, or waits for a caller."""
    steps = [
        row
        for row in after.steps.values()
        if row["run_id"] == run.id and row["status"] == "in_progress"
    ]
    messages = [
        row
        for row in after.messages.values()
        if row["run_id"] == run.id and row["status"] == "in_progress"
    ]
    if run.status == "requires_action":
        assert [row["type"] for row in steps] == ["tool_calls"]
        assert messages == []
    elif run.holder is None:
        assert (steps, messages) == ([], [])
