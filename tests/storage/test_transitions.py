"""The table of transitions, against the specification, and on both databases."""

from functools import partial

import pytest

from storage import Storage, transitions
from storage.tables import ACTIVE, Run, RunStatus
from storage.transaction import Transaction
from storage.transitions import Transition
from tests.support.storage.rows import get_run, make_run, make_thread, set_run

ALL = {name: value for name, value in vars(transitions).items() if isinstance(value, Transition)}

ALLOWED = {
    "queued": {"in_progress", "cancelling", "expired"},
    # In progress again: claimed anew, as the lease ran out.
    "in_progress": {
        "in_progress",
        "completed",
        "failed",
        "incomplete",
        "requires_action",
        "cancelling",
        "expired",
    },
    "requires_action": {"queued", "cancelled", "expired"},
    "cancelling": {"cancelled", "expired"},
    "completed": set(),
    "failed": set(),
    "incomplete": set(),
    "cancelled": set(),
    "expired": set(),
}
"""What the specification allows. Besides, deleting a thread cancels whatever run is active."""


@pytest.mark.parametrize("source", list(RunStatus))
@pytest.mark.parametrize("target", list(RunStatus))
def test_the_table_allows_what_the_contract_does(source: RunStatus, target: RunStatus) -> None:
    allowed = any(
        source in each.sources and target == each.target
        for each in ALL.values()
        if each is not transitions.DISCARD
    )
    assert allowed == (target in ALLOWED[source])


def test_deleting_a_thread_cancels_any_active_run() -> None:
    assert transitions.DISCARD.sources == set(ACTIVE)
    assert transitions.DISCARD.target == RunStatus.cancelled


@pytest.mark.parametrize("target", list(RunStatus))
def test_a_worker_may_end_a_run_in_every_way(target: RunStatus) -> None:
    ends = target not in ACTIVE or target == RunStatus.requires_action
    assert (target in transitions.BY_WORKER) == ends


def _apply(run_id: str, transition: Transition, tx: Transaction) -> Run | None:
    return transitions.apply(tx, run_id, transition, 1234.5)


@pytest.mark.parametrize("name", ALL)
async def test_a_transition_happens_from_its_sources_only(storage: Storage, name: str) -> None:
    transition = ALL[name]
    run = await make_run(storage, await make_thread(storage))
    for source in RunStatus:
        before = {"status": source, "lease_until": 5.0, "expires_at": 10, "usage": None}
        await set_run(storage, run, **before)
        after = await storage.database.write(partial(_apply, run.id, transition))
        stored = await get_run(storage, run)
        if source not in transition.sources:
            assert after is None
            assert stored.status == source
            continue
        assert after == stored
        assert after.status == transition.target
        assert (after.expires_at is None) == transition.ends
        assert (after.lease_until is None) == transition.ends
        assert (after.usage is not None) == transition.ends
        if transition.stamp is not None:
            assert getattr(after, transition.stamp) == 1234
