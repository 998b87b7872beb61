"""Runs under everything that can happen, in any order, against a model of the specification.

Callers, workers and reconcilers do what they may do, and what they may not; workers crash, or come
back late; time passes. After every step the whole thread must be what the model says it is.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from storage import Storage
from storage.database import Database
from storage.tables import RunStatus
from tests.support.runs.run_callers import Callers
from tests.support.runs.run_machine import LEASE, LIFETIME, PAST, World, busy, move
from tests.support.runs.run_model import Run
from tests.support.runs.run_workers import Workers

SETTINGS = settings(
    max_examples=20,
    stateful_step_count=50,
    phases=[Phase.generate, Phase.shrink],
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Everybody(Callers, Workers):
    """Callers and workers, the reconciler, and time."""

    @move(2, lambda self: busy(self) and self.thread.active.leased(self.now))
    def lose_lease(self, data: st.DataObject) -> None:
        """A worker is cut off, or stuck."""
        assert self.thread.active is not None
        self.set_times(self.thread.active, lease_until=PAST)

    @move(1)
    def expire(self, data: st.DataObject) -> None:
        """The active run's time is up, whatever it does."""
        assert self.thread.active is not None
        self.set_times(self.thread.active, expires_at=PAST)

    @move(1)
    def let_time_pass(self, data: st.DataObject) -> None:
        self.pass_time(data.draw(st.sampled_from([1, LEASE + 100, LIFETIME])))

    @move(2, lambda self: True)
    def reconcile(self, data: st.DataObject) -> None:
        self.look_around()

    @move(2)
    def end_stale_active(self, data: st.DataObject) -> None:
        assert self.thread.active is not None
        cancelling = self.thread.active.status == "cancelling"
        self.end_stale(self.thread.active, "cancelled" if cancelling else "expired")

    @move(1)
    def end_any_stale(self, data: st.DataObject) -> None:
        self.end_stale(self.draw_run(data), data.draw(st.sampled_from(["cancelled", "expired"])))

    def end_stale(self, run: Run, status: str) -> None:
        """A reconciler ends the run, if there is reason to."""
        ending = self.storage.stale_runs.end(run.id, RunStatus(status))
        due = run.status == "cancelling" if status == "cancelled" else run.expired(self.now)
        if run.gone or not due or run.leased(self.now):
            return self.nothing(ending)
        ended = self.go(ending)
        assert ended is not None
        return self.ended([ended], self.thread.end(run, status))

    def teardown(self) -> None:
        """All workers crash. Reconcilers and new workers must bring every run to its end."""
        if not self.sound:
            return  # It has failed already.
        self.attempts.clear()
        rounds = 0
        while any(run.active for run in self.thread.runs):
            rounds += 1
            assert rounds < 100
            self.pass_time(LEASE + 100)
            self.holds()
            self._round()

    def _round(self) -> None:
        stale = self.look_around()
        ours = {run.id: run for run in self.thread.runs}
        for status, runs in (("cancelled", stale.cancelling), ("expired", stale.overdue)):
            for each in runs:
                if each.id in ours:
                    self.end_stale(ours[each.id], status)
                    self.holds()
        for each in [*stale.queued, *stale.orphaned]:
            if each.id in ours:
                self.claim(ours[each.id])
                self.holds()
                self.finish(self.attempts[-1], "completed", None)
                self.holds()


@pytest.fixture
def opened(database_url: str) -> Iterator[World]:
    with asyncio.Runner() as runner:

        async def open_database() -> Database:
            return Database(database_url)

        database = runner.run(open_database())
        yield World(runner, Storage(database, lease_seconds=LEASE))
        runner.run(database.close())


def test_runs_do_what_the_contract_says(opened: World) -> None:
    class Here(Everybody):
        world = opened

    run_state_machine_as_test(Here, settings=SETTINGS)
