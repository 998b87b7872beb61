"""A process whose clock is wrong: leases, expiry and timestamps go by the database's alone."""

import time
from collections.abc import Iterator

import pytest

from storage import Storage, wall_clock
from tests.support.storage.rows import PROJECT, claimed, get_run, make_run, make_thread, now_of
from tests.support.storage.rows import user as from_user

MINUTE = 60.0
LEASE = 15.0


@pytest.fixture(params=[MINUTE, -MINUTE], ids=["fast", "slow"])
def wrong(request: pytest.FixtureRequest) -> Iterator[float]:
    """How wrong the clock is, by more than a lease."""
    wall_clock.set_offset(request.param)
    yield request.param
    wall_clock.set_offset(0)


async def test_leases_and_timestamps(storage: Storage, wrong: float) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    claim = await claimed(storage, run)
    now = await now_of(storage)
    assert abs(now - time.time()) < MINUTE / 2
    assert claim.run.lease_until is not None
    assert 0 < claim.run.lease_until - now <= LEASE
    assert claim.run.started_at is not None
    assert abs(claim.run.started_at - now) < MINUTE / 2
    # Held, for whoever has another clock.
    for offset in (0.0, -wrong):
        wall_clock.set_offset(offset)
        assert await storage.claims.claim(run.id) is None
        stale = await storage.stale_runs.find(0.0)
        assert [*stale.queued, *stale.orphaned, *stale.overdue] == []
    await storage.claims.renew(claim)
    renewed = await get_run(storage, run)
    assert renewed.lease_until is not None
    assert claim.run.lease_until <= renewed.lease_until <= await now_of(storage) + LEASE


async def test_the_order_of_a_thread(storage: Storage, wrong: float) -> None:
    thread = await make_thread(storage)
    positions = []
    for offset in (wrong, 0.0, -wrong, wrong):
        wall_clock.set_offset(offset)
        message = await storage.messages.create(PROJECT, thread.id, from_user("Hi"), queue=False)
        positions.append(message.position)
    assert positions == sorted(positions)
