"""Claims: one attempt holds a run, and only the one that holds it can write."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from storage import Storage
from storage.claims import Claim, MessageEnd, RunEnd, StepEnd
from storage.errors import ClaimLost
from storage.pages import PageRequest
from storage.tables import Run, RunStatus, StepStatus, Thread
from tests.support.storage.rows import (
    PROJECT,
    call,
    claimed,
    fetch,
    get_run,
    make_run,
    make_thread,
    now_of,
    set_run,
    start_message,
    start_tool_calls,
    text_part,
)

PAST = 1.0


async def test_a_claim_starts_the_run_and_holds_it(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage))
    claim = await claimed(storage, run)
    assert (claim.run.status, claim.run.attempt, claim.attempt) == ("in_progress", 1, 1)
    assert (claim.withdrawn.steps, claim.withdrawn.messages) == ([], [])
    assert claim.run.started_at is not None
    assert claim.run.lease_until is not None
    assert 0 < claim.run.lease_until - await now_of(storage) <= 15
    assert await get_run(storage, run) == claim.run
    assert await storage.claims.claim(run.id) is None


@pytest.mark.parametrize(
    "columns",
    [
        {"waiting": True},
        {"expires_at": 1},
        *({"status": each} for each in RunStatus if each not in ("queued", "in_progress")),
    ],
    ids=str,
)
async def test_what_cannot_be_claimed(storage: Storage, columns: dict[str, Any]) -> None:
    run = await make_run(storage, await make_thread(storage))
    await set_run(storage, run, **columns)
    assert await storage.claims.claim(run.id) is None
    assert (await get_run(storage, run)).attempt == 0


async def test_an_unknown_run_cannot_be_claimed(storage: Storage) -> None:
    assert await storage.claims.claim("run_x") is None


async def test_of_many_that_claim_one_gets_it(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage))
    claims = await asyncio.gather(*(storage.claims.claim(run.id) for _ in range(8)))
    assert sum(claim is not None for claim in claims) == 1


async def test_an_expired_lease_is_claimed_anew_and_what_is_open_withdrawn(
    storage: Storage,
) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    first = await claimed(storage, run)
    step, message = await start_message(storage, first)
    done = await start_tool_calls(storage, first)
    await storage.claims.save(first, steps=[StepEnd(done.id, StepStatus.completed)])
    await set_run(storage, run, lease_until=PAST)
    second = await claimed(storage, run)
    assert second.attempt == 2
    assert [each.id for each in second.withdrawn.steps] == [step.id]
    assert [each.id for each in second.withdrawn.messages] == [message.id]
    assert (await storage.messages.list(PROJECT, thread.id, PageRequest())).data == []
    steps = await storage.runs.list_steps(PROJECT, thread.id, run.id, PageRequest())
    assert [each.id for each in steps.data] == [done.id]


async def test_renewing_keeps_the_run_and_returns_that_it_is_cancelled(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    await set_run(storage, claim.run, lease_until=PAST)
    assert await storage.claims.renew(claim) == RunStatus.in_progress
    lease = (await get_run(storage, claim.run)).lease_until
    assert lease is not None
    assert lease > await now_of(storage)
    assert await storage.claims.claim(claim.run.id) is None
    await storage.runs.cancel(PROJECT, thread.id, claim.run.id)
    assert await storage.claims.renew(claim) == RunStatus.cancelling


async def test_a_released_run_is_claimed_at_once(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    step, message = await start_message(storage, claim)
    withdrawn = await storage.claims.release(claim)
    assert [each.id for each in withdrawn.steps] == [step.id]
    assert [each.id for each in withdrawn.messages] == [message.id]
    assert [each.id for each in (await storage.stale_runs.find(0)).orphaned] == [claim.run.id]
    again = await claimed(storage, claim.run)
    assert again.attempt > claim.attempt
    assert (again.withdrawn.steps, again.withdrawn.messages) == ([], [])


async def test_steps_and_messages_open_empty_and_in_order(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    message_step, message = await start_message(storage, claim)
    call_step = await start_tool_calls(storage, claim)
    assert message_step.position < message.position < call_step.position
    assert (message.status, message.role, message.content) == ("in_progress", "assistant", [])
    assert (message.run_id, message.assistant_id) == (claim.run.id, claim.run.assistant_id)
    assert message_step.step_details["message_creation"] == {"message_id": message.id}
    assert call_step.step_details == {"type": "tool_calls", "tool_calls": []}
    steps = await storage.runs.list_steps(
        PROJECT, thread.id, claim.run.id, PageRequest(order="asc")
    )
    assert steps.data == [message_step, call_step]


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


async def test_a_run_completes_with_its_message_and_step(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    earlier = await start_tool_calls(storage, claim)
    await storage.claims.save(
        claim, steps=[StepEnd(earlier.id, StepStatus.completed, usage=_usage(10, 1))]
    )
    step, message = await start_message(storage, claim)
    saved = await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("Hello")]),
        steps=[StepEnd(step.id, StepStatus.completed, usage=_usage(20, 5))],
        run=RunEnd(RunStatus.completed),
    )
    assert saved.message is not None
    assert saved.run is not None
    assert (saved.message.status, saved.message.content) == ("completed", [text_part("Hello")])
    assert saved.message.completed_at is not None
    assert [(each.status, each.usage) for each in saved.steps] == [("completed", _usage(20, 5))]
    assert (saved.run.status, saved.run.usage) == ("completed", _usage(30, 6))
    assert saved.run.completed_at is not None
    assert (saved.run.expires_at, saved.run.lease_until) == (None, None)
    assert await storage.messages.get(PROJECT, thread.id, message.id) == saved.message
    assert await get_run(storage, claim.run) == saved.run


async def test_what_is_to_be_replayed_is_kept_beside_the_details(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    # JSON's own null, and the order of keys, are the server's affair.
    replay = {"turn": {"z": None, "a": [{"y": 1, "x": "ö"}]}, "calls": [{"id": "a1B2c3D4e"}]}
    step = await start_tool_calls(storage, claim)
    plain, _ = await start_message(storage, claim, ahead_of=step)
    details = {"type": "tool_calls", "tool_calls": [call("call_1")]}
    await storage.claims.save(
        claim,
        steps=[
            StepEnd(plain.id, StepStatus.completed),
            StepEnd(step.id, StepStatus.in_progress, step_details=details, replay=replay),
        ],
        run=RunEnd(RunStatus.requires_action),
    )
    await storage.runs.submit_tool_outputs(PROJECT, thread.id, claim.run.id, [("call_1", "1")])
    first, second = (await storage.claims.context(claim.run, 100)).steps
    assert (first.replay, json.dumps(second.replay)) == (None, json.dumps(replay))
    calls = [call("call_1", "1")]
    assert second.step_details == {"type": "tool_calls", "tool_calls": calls}


async def test_a_run_fails_with_its_message_incomplete(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    step, message = await start_message(storage, claim)
    error = {"code": "server_error", "message": "no"}
    saved = await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("Hel")], "run_failed"),
        steps=[StepEnd(step.id, StepStatus.failed, last_error=error)],
        run=RunEnd(RunStatus.failed, last_error=error),
    )
    assert saved.message is not None
    assert saved.run is not None
    assert (saved.message.status, saved.message.incomplete_reason) == ("incomplete", "run_failed")
    assert saved.message.incomplete_at is not None
    assert saved.message.completed_at is None
    assert (saved.steps[0].last_error, saved.steps[0].completed_at) == (error, None)
    assert saved.steps[0].failed_at is not None
    assert (saved.run.last_error, saved.run.failed_at is not None) == (error, True)
    # The thread is free again.
    await make_run(storage, thread)


async def test_a_run_goes_on_though_its_message_was_deleted(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    step, message = await start_message(storage, claim)
    await storage.messages.delete(PROJECT, thread.id, message.id)
    saved = await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("Hello")]),
        steps=[StepEnd(step.id, StepStatus.completed)],
        run=RunEnd(RunStatus.completed),
    )
    assert saved.message is None
    assert saved.run is not None
    assert (saved.steps[0].status, saved.run.status) == ("completed", "completed")
    assert (await storage.messages.list(PROJECT, thread.id, PageRequest())).data == []


async def test_a_cancelling_run_can_only_be_cancelled(storage: Storage) -> None:
    thread = await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    step, message = await start_message(storage, claim)
    await storage.runs.cancel(PROJECT, thread.id, claim.run.id)
    whole = MessageEnd(message.id, [text_part("Hello")])
    for attempt in (
        storage.claims.save(claim, message=whole, run=RunEnd(RunStatus.completed)),
        storage.claims.save(claim, message=whole, run=RunEnd(RunStatus.failed)),
        storage.claims.save(claim, message=whole),
        start_message(storage, claim),
        start_tool_calls(storage, claim),
        storage.claims.release(claim),
    ):
        with pytest.raises(ClaimLost):
            await attempt
    assert (await storage.messages.get(PROJECT, thread.id, message.id)).content == []
    saved = await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("Hel")], "run_cancelled"),
        steps=[StepEnd(step.id, StepStatus.cancelled)],
        run=RunEnd(RunStatus.cancelled),
    )
    assert saved.run is not None
    assert (saved.run.status, saved.steps[0].status) == ("cancelled", "cancelled")
    kept = await storage.messages.get(PROJECT, thread.id, message.id)
    assert (kept.status, kept.content) == ("incomplete", [text_part("Hel")])


async def test_what_nobody_cancelled_cannot_be_saved_as_cancelled(storage: Storage) -> None:
    claim = await claimed(storage, await make_run(storage, await make_thread(storage)))
    with pytest.raises(ClaimLost):
        await storage.claims.save(claim, run=RunEnd(RunStatus.cancelled))
    assert (await get_run(storage, claim.run)).status == "in_progress"


async def _reclaimed(storage: Storage, thread: Thread, claim: Claim) -> None:
    await set_run(storage, claim.run, lease_until=PAST)
    await claimed(storage, claim.run)


async def _released(storage: Storage, thread: Thread, claim: Claim) -> None:
    await storage.claims.release(claim)


async def _expired(storage: Storage, thread: Thread, claim: Claim) -> None:
    await set_run(storage, claim.run, lease_until=PAST, expires_at=1)
    assert await storage.stale_runs.end(claim.run.id, RunStatus.expired) is not None


async def _put_down(storage: Storage, thread: Thread, claim: Claim) -> None:
    await storage.claims.save(claim, run=RunEnd(RunStatus.requires_action))


async def _ended(storage: Storage, thread: Thread, claim: Claim) -> None:
    await storage.claims.save(claim, run=RunEnd(RunStatus.completed))


async def _deleted(storage: Storage, thread: Thread, claim: Claim) -> None:
    await storage.threads.delete(PROJECT, thread.id)


Loss = Callable[[Storage, Thread, Claim], Awaitable[None]]


@pytest.mark.parametrize("lose", [_reclaimed, _released, _expired, _put_down, _ended, _deleted])
async def test_an_attempt_that_lost_its_claim_changes_nothing(storage: Storage, lose: Loss) -> None:
    thread, witness = await make_thread(storage), await make_thread(storage)
    claim = await claimed(storage, await make_run(storage, thread))
    step, message = await start_message(storage, claim)
    await lose(storage, thread, claim)
    before = await _everything(storage)
    ends = (MessageEnd(message.id, [text_part("late")]), [StepEnd(step.id, StepStatus.failed)])
    for attempt in (
        storage.claims.renew(claim),
        storage.claims.release(claim),
        start_message(storage, claim),
        start_tool_calls(storage, claim),
        storage.claims.save(claim, message=ends[0], steps=ends[1]),
        storage.claims.save(claim, run=RunEnd(RunStatus.completed)),
        storage.claims.save(claim, run=RunEnd(RunStatus.cancelled)),
        storage.claims.save(claim, run=RunEnd(RunStatus.expired)),
    ):
        with pytest.raises(ClaimLost) as error:
            await attempt
        assert error.value.run_id == claim.run.id
    assert await _everything(storage) == before
    assert await storage.threads.get(PROJECT, witness.id) == witness


async def _everything(storage: Storage) -> list[list[Any]]:
    tables = Run.metadata.sorted_tables
    return [await fetch(storage, table.select().order_by(*table.primary_key)) for table in tables]


async def test_a_message_that_begins_after_the_calls_stands_ahead_of_them(
    storage: Storage,
) -> None:
    thread = await make_thread(storage, "Hi")
    run = await make_run(storage, thread)
    claim = await claimed(storage, run)
    # Many at once, so that positions are close to each other.
    for _ in range(20):
        calls = await start_tool_calls(storage, claim)
        step, message = await start_message(storage, claim, ahead_of=calls)
        assert step.position < message.position < calls.position
        assert step.id == f"step_{step.position}"
    page = PageRequest(order="asc", limit=100)
    steps = (await storage.runs.list_steps(PROJECT, thread.id, run.id, page)).data
    assert [step.type for step in steps] == ["message_creation", "tool_calls"] * 20
