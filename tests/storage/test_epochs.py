"""A run's epoch: it grows whenever the right to publish its events passes on, and never shrinks."""

from collections.abc import Awaitable, Callable

import pytest

from storage import Storage
from storage.claims import RunEnd, StepEnd
from storage.tables import Run, RunStatus, StepStatus
from storage.transitions import epoch
from tests.support.storage.rows import (
    PROJECT,
    call,
    claimed,
    get_run,
    make_run,
    make_thread,
    set_run,
    start_tool_calls,
)

PAST = 1.0


async def cancel(storage: Storage, run: Run) -> None:
    await storage.runs.cancel(PROJECT, run.thread_id, run.id)


async def claim(storage: Storage, run: Run) -> None:
    await claimed(storage, run)


async def reclaim(storage: Storage, run: Run) -> None:
    await set_run(storage, run, lease_until=PAST)
    await claimed(storage, run)


async def expire(storage: Storage, run: Run) -> None:
    await set_run(storage, run, lease_until=PAST, expires_at=1)
    assert await storage.stale_runs.end(run.id, RunStatus.expired) is not None


@pytest.mark.parametrize("change", [claim, cancel, expire])
async def test_of_a_queued_run(
    storage: Storage, change: Callable[[Storage, Run], Awaitable[None]]
) -> None:
    run = await make_run(storage, await make_thread(storage))
    await change(storage, run)
    assert epoch(await get_run(storage, run)) == epoch(run) + 1


@pytest.mark.parametrize("change", [reclaim, expire])
async def test_of_a_run_that_was_claimed(
    storage: Storage, change: Callable[[Storage, Run], Awaitable[None]]
) -> None:
    run = (await claimed(storage, await make_run(storage, await make_thread(storage)))).run
    await change(storage, run)
    assert epoch(await get_run(storage, run)) == epoch(run) + 1


async def test_a_release_begins_one(storage: Storage) -> None:
    held = await claimed(storage, await make_run(storage, await make_thread(storage)))
    await storage.claims.release(held)
    assert epoch(await get_run(storage, held.run)) == epoch(held.run) + 1


async def test_a_worker_that_is_asked_to_stop_ends_the_run_in_its_own(storage: Storage) -> None:
    held = await claimed(storage, await make_run(storage, await make_thread(storage)))
    await cancel(storage, held.run)
    saved = await storage.claims.save(held, run=RunEnd(RunStatus.cancelled))
    assert saved.run is not None
    assert epoch(saved.run) == epoch(held.run)


async def test_tool_outputs_begin_one(storage: Storage) -> None:
    held = await claimed(storage, await make_run(storage, await make_thread(storage)))
    step = await start_tool_calls(storage, held)
    details = {"type": "tool_calls", "tool_calls": [call("call_1")]}
    ends = [StepEnd(step.id, StepStatus.in_progress, step_details=details)]
    await storage.claims.save(held, steps=ends, run=RunEnd(RunStatus.requires_action))
    submitted = await storage.runs.submit_tool_outputs(
        PROJECT, held.run.thread_id, held.run.id, [("call_1", "1")]
    )
    assert epoch(submitted.run) == epoch(held.run) + 1


async def test_a_deleted_thread_begins_one_for_the_end(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage))
    [ended] = await storage.threads.delete(PROJECT, run.thread_id)
    assert epoch(ended.run) == epoch(run) + 1
