"""What the reconciler asks of storage, and what a run's model gets to read."""

from typing import Any

import pytest

from storage import Storage
from storage.claims import MessageEnd, RunEnd, StepEnd
from storage.pages import PageRequest
from storage.tables import ACTIVE, RunStatus, StepStatus
from tests.support.storage.rows import (
    PROJECT,
    claimed,
    get_run,
    make_run,
    make_thread,
    set_run,
    start_message,
    start_tool_calls,
    text_part,
    user,
)

PAST, FUTURE = 1.0, 4_000_000_000.0


async def test_an_unowned_cancelling_run_is_cancelled_with_what_it_has_open(
    storage: Storage,
) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    step, message = await start_message(storage, await claimed(storage, run))
    await storage.runs.cancel(PROJECT, thread.id, run.id)
    # A live lease: whoever holds it ends the run.
    assert await storage.stale_runs.end(run.id, RunStatus.cancelled) is None
    await set_run(storage, run, lease_until=PAST)
    ended = await storage.stale_runs.end(run.id, RunStatus.cancelled)
    assert ended is not None
    assert (ended.run.status, ended.run.expires_at) == ("cancelled", None)
    assert ended.run.cancelled_at is not None
    assert [(each.id, each.status) for each in ended.steps] == [(step.id, "cancelled")]
    assert [(each.id, each.status, each.incomplete_reason) for each in ended.messages] == [
        (message.id, "incomplete", "run_cancelled")
    ]
    assert await storage.messages.get(PROJECT, thread.id, message.id) == ended.messages[0]
    assert await storage.stale_runs.end(run.id, RunStatus.cancelled) is None


async def test_a_run_that_was_cancelled_before_its_claim_ends_at_once(storage: Storage) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    assert await storage.stale_runs.end(run.id, RunStatus.cancelled) is None
    await storage.runs.cancel(PROJECT, thread.id, run.id)
    ended = await storage.stale_runs.end(run.id, RunStatus.cancelled)
    assert ended is not None
    assert ended.run.status == "cancelled"


@pytest.mark.parametrize("status", ACTIVE)
async def test_what_is_past_its_lifetime_expires(storage: Storage, status: RunStatus) -> None:
    run = await make_run(storage, await make_thread(storage))
    await start_message(storage, await claimed(storage, run))
    await set_run(storage, run, status=status, lease_until=PAST)
    assert await storage.stale_runs.end(run.id, RunStatus.expired) is None
    await set_run(storage, run, expires_at=1, lease_until=FUTURE)
    assert await storage.stale_runs.end(run.id, RunStatus.expired) is None
    await set_run(storage, run, lease_until=None)
    ended = await storage.stale_runs.end(run.id, RunStatus.expired)
    assert ended is not None
    assert (ended.run.status, ended.run.expires_at) == ("expired", None)
    assert ended.steps[0].expired_at is not None
    assert [each.status for each in ended.steps] == ["expired"]
    assert [each.incomplete_reason for each in ended.messages] == ["run_expired"]


async def test_an_unknown_run_is_nothing_to_end(storage: Storage) -> None:
    assert await storage.stale_runs.end("run_x", RunStatus.expired) is None


STALE: dict[str, list[dict[str, Any]]] = {
    "queued": [
        {"status": "queued", "queued_at": PAST},
    ],
    "orphaned": [
        {"status": "in_progress", "lease_until": PAST},
        {"status": "in_progress", "lease_until": 0.0},
    ],
    "cancelling": [
        {"status": "cancelling", "lease_until": PAST},
        {"status": "cancelling", "lease_until": None},
    ],
    "overdue": [
        {"status": "queued", "expires_at": 1},
        {"status": "in_progress", "lease_until": PAST, "expires_at": 1},
        {"status": "requires_action", "expires_at": 1},
    ],
    "nothing": [
        {"status": "queued", "queued_at": FUTURE},
        {"status": "queued", "queued_at": PAST, "waiting": True},
        {"status": "queued", "queued_at": PAST, "waiting": True, "expires_at": 1},
        {"status": "in_progress", "lease_until": FUTURE},
        {"status": "in_progress", "lease_until": FUTURE, "expires_at": 1},
        {"status": "requires_action"},
        {"status": "cancelling", "lease_until": FUTURE},
        {"status": "completed", "expires_at": None, "queued_at": PAST},
        {"status": "expired", "expires_at": None, "queued_at": PAST},
    ],
}


async def test_stale_runs_are_found(storage: Storage) -> None:
    made: dict[str, set[str]] = {kind: set() for kind in STALE}
    for kind, rows in STALE.items():
        for columns in rows:
            run = await make_run(storage, await make_thread(storage))
            await set_run(storage, run, **columns)
            made[kind].add(run.id)
    stale = await storage.stale_runs.find(queued_for=5)
    found = {
        kind: {each.id for each in getattr(stale, kind)} for kind in STALE if kind != "nothing"
    }
    assert found == {kind: ids for kind, ids in made.items() if kind != "nothing"}


async def test_queued_runs_are_listed_oldest_first(storage: Storage) -> None:
    made = []
    for queued_at in (3.0, 1.0, 2.0):
        run = await make_run(storage, await make_thread(storage))
        await set_run(storage, run, queued_at=queued_at)
        made.append(run.id)
    queued = (await storage.stale_runs.find(0)).queued
    assert [each.id for each in queued] == [made[1], made[2], made[0]]


async def test_a_new_run_is_stale_only_after_a_while(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage))
    assert (await storage.stale_runs.find(60)).queued == []
    assert (await storage.stale_runs.find(0)).queued == [(run.id, run.assistant_id, 0)]


async def test_a_model_reads_the_thread_up_to_its_run(storage: Storage) -> None:
    thread = await make_thread(storage, "one", "two")
    run = await make_run(storage, thread)
    claim = await claimed(storage, run)
    call_step = await start_tool_calls(storage, claim)
    await storage.claims.save(claim, steps=[StepEnd(call_step.id, StepStatus.completed)])
    step, message = await start_message(storage, claim)
    await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("Hello")]),
        steps=[StepEnd(step.id, StepStatus.completed)],
    )
    context = await storage.claims.context(run, 100)
    assert [m.content[0]["text"]["value"] for m in context.messages] == ["one", "two"]
    assert [each.id for each in context.steps] == [call_step.id, step.id]
    assert {id: m.content for id, m in context.step_messages.items()} == {
        message.id: [text_part("Hello")]
    }
    last = await storage.claims.context(run, 1)
    assert [m.content[0]["text"]["value"] for m in last.messages] == ["two"]


async def test_later_messages_belong_to_the_next_run(storage: Storage) -> None:
    thread = await make_thread(storage, "one")
    first = await make_run(storage, thread)
    claim = await claimed(storage, first)
    step, message = await start_message(storage, claim)
    await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("answer")]),
        steps=[StepEnd(step.id, StepStatus.completed)],
        run=RunEnd(RunStatus.completed),
    )
    await storage.messages.create(PROJECT, thread.id, user("two"))
    second = await make_run(storage, thread)
    for run, texts in ((first, ["one"]), (second, ["one", "answer", "two"])):
        context = await storage.claims.context(await get_run(storage, run), 100)
        assert [m.content[0]["text"]["value"] for m in context.messages] == texts
    assert (await storage.runs.list(PROJECT, thread.id, PageRequest())).data[0].id == second.id
