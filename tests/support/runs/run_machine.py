"""What can happen to the runs of a thread, as rules that try it, in the database and in the model.

Rules expect of storage what the model allows, and refusals of everything else. After each of them
the thread is compared as a whole.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlmodel import col, update

from storage import Storage
from storage import rows as stored_rows
from storage.claims import Claim
from storage.openings import Opening
from storage.stale_runs import Stale
from storage.tables import Message, RunStep
from storage.tables import Run as StoredRun
from storage.transitions import Ended
from tests.support.runs.run_model import Ending, Run, Step, Thread
from tests.support.runs.snapshots import check, look, rows_of, settle
from tests.support.storage.rows import execute, make_thread

T = TypeVar("T")
Stored = StoredRun | RunStep | Message
Refusal = TypeVar("Refusal", bound=Exception)

LEASE, LIFETIME = 36_000, 360_000
"""So long that, in a test, no time passes but what rules let pass."""

PAST, HOUR = 1, 3600

TIMES = ("created_at", "queued_at", "started_at", "expires_at", "lease_until")
"""What moves into the past as time goes by. When things ended has no consequences."""


@dataclass
class World:
    """The repositories, in an event loop that lasts for all examples of a test."""

    runner: asyncio.Runner
    storage: Storage


@dataclass(frozen=True)
class Move:
    """Something that a machine can do: how often it is tried, and when it makes sense."""

    weight: int
    when: Callable[[Any], object]


MOVES: dict[str, Move] = {}
"""By the names of the methods."""

Method = TypeVar("Method", bound=Callable[..., None])


def busy(machine: "Machine") -> bool:
    """Whether a run is active."""
    return machine.thread.active is not None


def move(weight: int = 1, when: Callable[[Any], object] = busy) -> Callable[[Method], Method]:
    """Makes a method a move: it is given the data to draw from."""

    def mark(method: Method) -> Method:
        MOVES[method.__name__] = Move(weight, when)
        return method

    return mark


def names(machine: "Machine") -> list[str]:
    """The moves that make sense now, each as often as it weighs."""
    return [name for name, move in MOVES.items() if move.when(machine) for _ in range(move.weight)]


@dataclass(eq=False)
class Attempt:
    """A worker that holds a run, or believes so, and the steps that it has begun."""

    claim: Claim
    run: Run
    steps: list[Step] = field(default_factory=list)
    unwritten: list[tuple[Opening, Step]] = field(default_factory=list)
    """What it has begun and could not write: that is left to its end."""

    def __repr__(self) -> str:
        return f"<attempt {self.claim.attempt} at {self.run!r}>"

    @property
    def holds(self) -> bool:
        """Whether it may write."""
        return self.run.holder is self.claim

    @property
    def open_steps(self) -> list[Step]:
        """What it has begun and not ended, as far as it knows."""
        return [step for step in self.steps if step.open] + [step for _, step in self.unwritten]


class Machine(RuleBasedStateMachine):
    """A thread in the database, and its model."""

    world: World

    def __init__(self) -> None:
        """Begins with an empty thread."""
        super().__init__()
        self.storage = self.world.storage
        self.runs: list[Run] = []
        """All that there ever were, also in threads that were deleted."""
        self.attempts: list[Attempt] = []
        self._returned: list[Stored] = []
        self._refused = False
        self._sound = False
        self.begin()

    def begin(self) -> None:
        """Makes an empty thread."""
        self.thread = Thread(self.go(make_thread(self.storage)).id)
        self.seen = self.go(look(self.storage, self.thread.id))
        self.holds()

    def go(self, doing: Coroutine[Any, Any, T]) -> T:
        """Does something to storage."""
        self._sound = False
        return self.world.runner.run(doing)

    def refused(self, error: type[Refusal], doing: Coroutine[Any, Any, Any]) -> Refusal:
        """Tries something that must raise the error and leave everything as it was."""
        with pytest.raises(error) as raised:
            self.go(doing)
        self._refused = True
        return raised.value

    def nothing(self, doing: Coroutine[Any, Any, Any]) -> None:
        """Tries something for which there must be no reason."""
        assert self.go(doing) is None
        self._refused = True

    def returned(self, *rows: Stored | None) -> None:
        """Takes the rows that an operation has returned: what it has stored."""
        self._returned += [row for row in rows if row is not None]

    def ended(self, ended: Sequence[Ended], model: Ending) -> None:
        """Takes what was ended from outside; it must be what the model says, and stored."""
        rows: list[Stored] = [each.run for each in ended]
        for each in ended:
            rows += [*each.steps, *each.messages]
        assert {row.id for row in rows} == model.rows.keys()
        assert [each.released.id for each in ended if each.released] == (
            [] if model.released is None else [model.released.id]
        )
        if self.thread.gone:
            for row in rows:
                settle(model.rows[row.id], stored_rows.values(row), self.now, self.now + HOUR)
        else:
            self.returned(*rows, *(each.released for each in ended))

    @rule(name=st.runner().flatmap(lambda self: st.sampled_from(names(self))), data=st.data())
    def step(self, name: str, data: st.DataObject) -> None:
        """Makes a move. One rule for all, as rules have no weights."""
        getattr(self, name)(data)

    def draw_run(self, data: st.DataObject) -> Run:
        """One of all runs; what lives is worth more tries than what is over."""
        runs = {run.id: run for run in self.runs}
        live = [run.id for run in self.runs if run.active]
        return runs[data.draw(st.sampled_from([*runs, *4 * live]))]

    @property
    def sound(self) -> bool:
        """Whether all has gone as it must so far."""
        return self._sound

    @property
    def now(self) -> float:
        """The database's time after the last step."""
        return self.seen.now

    @invariant()
    def holds(self) -> None:
        """Compares the thread with its model."""
        after = self.go(look(self.storage, self.thread.id))
        check(self.thread, self.seen, after)
        if self._refused:
            assert (after.rows, after.last_position) == (self.seen.rows, self.seen.last_position)
        for row in self._returned:
            assert stored_rows.values(row) == after.rows[row.id]
        self.seen, self._refused, self._returned = after, False, []
        self._sound = True

    def look_around(self) -> Stale:
        """Finds, as reconcilers do, runs that no worker holds."""
        stale = self.go(self.storage.stale_runs.find(0))
        unheld = [run for run in self.thread.runs if not run.leased(self.now)]
        claimable = [run for run in unheld if run.claimable(self.now)]
        expected = {
            "queued": {run.id for run in claimable if run.status == "queued"},
            "orphaned": {run.id for run in claimable if run.status == "in_progress"},
            "cancelling": {run.id for run in unheld if run.status == "cancelling"},
            "overdue": {run.id for run in unheld if run.expired(self.now)},
        }
        ours = {run.id for run in self.runs}
        found = {kind: {each.id for each in getattr(stale, kind)} & ours for kind in expected}
        assert found == expected
        return stale

    def set_times(self, run: Run, **columns: float) -> None:
        """Overwrites times of a run: its lease, or its lifetime, has run out."""
        change = update(StoredRun).where(col(StoredRun.id) == run.id).values(**columns)
        self.go(self._execute(change))
        run.row |= columns

    def pass_time(self, seconds: int) -> None:
        """Lets time pass: all that was is so much longer ago."""
        for table in (StoredRun, RunStep, Message):
            columns = [getattr(table, name) for name in TIMES if name in table.model_fields]
            values = {column: column - seconds for column in columns}
            here = col(table.thread_id) == self.thread.id
            self.go(self._execute(update(table).where(here).values(values)))
        for row in rows_of(self.thread).values():
            row |= {name: row[name] - seconds for name in TIMES if row.get(name) is not None}

    async def _execute(self, statement: Any) -> None:
        await execute(self.storage, statement)
