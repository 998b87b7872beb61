"""Runs that wait behind others: who is released when, and what it may read."""

from typing import Any

import pytest

from storage import Storage
from storage.claims import Claim, MessageEnd, RunEnd, StepEnd
from storage.errors import ActiveRun, LockedThread
from storage.tables import Run, RunStatus, StepStatus, Thread
from tests.support.storage.rows import (
    PROJECT,
    claimed,
    get_run,
    make_run,
    make_thread,
    new_run,
    set_run,
    start_message,
    text_part,
    user,
)

PAST = 1.0


async def queue(storage: Storage, thread: Thread, *texts: str, **changes: Any) -> Run:
    """Inserts a run that may wait, after messages with these texts."""
    messages = [user(text) for text in texts]
    new = new_run(**changes)
    return (await storage.runs.create(PROJECT, thread.id, new, messages, queue=True)).run


async def say(storage: Storage, thread: Thread, text: str) -> None:
    await storage.messages.create(PROJECT, thread.id, user(text), queue=True)


async def answer(storage: Storage, claim: Claim, text: str) -> Run | None:
    """Completes a run with a message; returns what that releases."""
    step, message = await start_message(storage, claim)
    saved = await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part(text)]),
        steps=[StepEnd(step.id, StepStatus.completed)],
        run=RunEnd(RunStatus.completed),
    )
    return saved.released


async def read(storage: Storage, run: Run, last: int = 100) -> list[str]:
    """The texts that the run's model may read, which are the same in whatever portions."""
    run = await get_run(storage, run)
    found = (await storage.claims.context(run, last)).messages
    for portion in (1, 2):
        messages = (await storage.claims.context(run, portion)).messages
        while len(messages) < len(found):
            messages = await storage.claims.earlier(run, messages[0], portion) + messages
        assert messages[-len(found) :] == found
    return [message.content[0]["text"]["value"] for message in found]


async def test_nothing_to_wait_for(storage: Storage) -> None:
    thread = await make_thread(storage)
    run = await queue(storage, thread)
    assert not run.waiting
    assert (await claimed(storage, run)).run.status == "in_progress"
    with pytest.raises(ActiveRun):
        await make_run(storage, thread)
    with pytest.raises(LockedThread):
        await storage.messages.create(PROJECT, thread.id, user("no"))


async def test_one_is_released_at_a_time_in_their_order(storage: Storage) -> None:
    thread = await make_thread(storage, "Hi")
    first = await make_run(storage, thread)
    second, third = [await queue(storage, thread, lifetime=100) for _ in range(2)]
    assert (second.waiting, third.waiting) == (True, True)
    # Nobody can have them yet.
    assert await storage.claims.claim(second.id) is None
    await set_run(storage, second, queued_at=PAST, created_at=1000, expires_at=1100)
    released = await answer(storage, await claimed(storage, first), "One")
    assert released == await get_run(storage, second)
    assert (released.id, released.waiting, released.status) == (second.id, False, "queued")
    # As new, as of now.
    assert released.expires_at is not None
    assert int(released.queued_at) + 100 == released.expires_at
    assert (await get_run(storage, third)).waiting
    released = await answer(storage, await claimed(storage, second), "Two")
    assert released is not None and released.id == third.id
    assert await answer(storage, await claimed(storage, third), "Three") is None
    assert await read(storage, third) == ["Hi", "One", "Two"]


async def test_an_answer_stands_behind_what_it_answers(storage: Storage) -> None:
    thread = await make_thread(storage, "one", "two")
    first = await make_run(storage, thread)
    claim = await claimed(storage, first)
    await say(storage, thread, "three")
    second = await queue(storage, thread, "four")
    step, message = await start_message(storage, claim)
    await say(storage, thread, "five")
    assert await read(storage, first) == ["one", "two"]
    await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("answer")]),
        steps=[StepEnd(step.id, StepStatus.completed)],
        run=RunEnd(RunStatus.completed),
    )
    await say(storage, thread, "six")
    # Settled when it was released.
    expected = ["one", "two", "answer", "three", "four", "five"]
    assert await read(storage, second) == expected
    for count in range(1, 7):
        assert await read(storage, second, count) == expected[-count:]
    assert await answer(storage, await claimed(storage, second), "again") is None
    third = await make_run(storage, thread)
    assert await read(storage, third) == [*expected, "again", "six"]


@pytest.mark.parametrize("status", [RunStatus.cancelled, RunStatus.expired])
async def test_an_end_from_outside_releases_too(storage: Storage, status: RunStatus) -> None:
    thread = await make_thread(storage)
    first = await make_run(storage, thread)
    second = await queue(storage, thread)
    if status == RunStatus.cancelled:
        await storage.runs.cancel(PROJECT, thread.id, first.id)
    else:
        await set_run(storage, first, expires_at=1)
    ended = await storage.stale_runs.end(first.id, status)
    assert ended is not None and ended.released is not None
    assert (ended.released.id, ended.released.waiting) == (second.id, False)


async def test_cancelling_a_run_that_awaits_outputs_releases(storage: Storage) -> None:
    thread = await make_thread(storage)
    first = await make_run(storage, thread)
    second = await queue(storage, thread)
    claim = await claimed(storage, first)
    saved = await storage.claims.save(claim, run=RunEnd(RunStatus.requires_action))
    assert saved.released is None
    assert (await get_run(storage, second)).waiting
    ended = await storage.runs.cancel(PROJECT, thread.id, first.id)
    assert ended.released is not None and ended.released.id == second.id


async def test_a_waiting_run_that_is_cancelled_releases_no_other(storage: Storage) -> None:
    thread = await make_thread(storage)
    first = await make_run(storage, thread)
    second, third = [await queue(storage, thread) for _ in range(2)]
    await storage.runs.cancel(PROJECT, thread.id, second.id)
    # Passed over, should the active run end first.
    ended = await storage.stale_runs.end(second.id, RunStatus.cancelled)
    assert ended is not None and ended.released is None
    assert (await get_run(storage, second)).status == "cancelled"
    released = await answer(storage, await claimed(storage, first), "One")
    assert released is not None and released.id == third.id


async def test_a_run_that_is_being_cancelled_is_passed_over(storage: Storage) -> None:
    thread = await make_thread(storage)
    first = await make_run(storage, thread)
    second, third = [await queue(storage, thread) for _ in range(2)]
    await storage.runs.cancel(PROJECT, thread.id, second.id)
    released = await answer(storage, await claimed(storage, first), "One")
    assert released is not None and released.id == third.id
    assert (await storage.stale_runs.find(0)).cancelling == [(second.id, second.assistant_id, 1)]
    ended = await storage.stale_runs.end(second.id, RunStatus.cancelled)
    assert ended is not None and ended.released is None


async def test_a_deleted_thread_takes_all_of_them(storage: Storage) -> None:
    thread = await make_thread(storage)
    runs = [await queue(storage, thread) for _ in range(3)]
    ended = await storage.threads.delete(PROJECT, thread.id)
    assert {each.run.id for each in ended} == {run.id for run in runs}
    assert {(each.run.status, each.released) for each in ended} == {("cancelled", None)}


async def test_an_end_from_outside_takes_the_run_from_its_worker(storage: Storage) -> None:
    """And gives its last events numbers of their own, as every claim does."""
    run = await make_run(storage, await make_thread(storage))
    cancelling = (await storage.runs.cancel(PROJECT, run.thread_id, run.id)).run
    ended = await storage.stale_runs.end(run.id, RunStatus.cancelled)
    assert ended is not None
    assert [each.attempt for each in (run, cancelling, ended.run)] == [0, 1, 2]


async def test_a_worker_ends_what_was_cancelled_under_its_claim(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage))
    claim = await claimed(storage, run)
    assert (await storage.runs.cancel(PROJECT, run.thread_id, run.id)).run.attempt == 1
    saved = await storage.claims.save(claim, run=RunEnd(RunStatus.cancelled))
    assert saved.run is not None and saved.run.status == "cancelled"


async def test_what_is_held(storage: Storage) -> None:
    assert await storage.claims.held([]) == {}
    runs = [await make_run(storage, await make_thread(storage)) for _ in range(5)]
    claims = [await claimed(storage, run) for run in runs]
    working, cancelled, over, other, deleted = runs
    await storage.runs.cancel(PROJECT, cancelled.thread_id, cancelled.id)
    await storage.claims.save(claims[2], run=RunEnd(RunStatus.completed))
    await set_run(storage, other, attempt=2)
    await storage.threads.delete(PROJECT, deleted.thread_id)
    # A run of somebody else's is none of ours.
    await claimed(storage, await make_run(storage, await make_thread(storage)))
    assert await storage.claims.held(claims) == {
        working.id: RunStatus.in_progress,
        cancelled.id: RunStatus.cancelling,
    }
    assert over.id not in await storage.claims.held(claims)


async def test_the_census(storage: Storage) -> None:
    census = await storage.stale_runs.census()
    assert (census.runs, census.oldest_queued) == ({}, 0.0)
    thread = await make_thread(storage)
    first = await make_run(storage, thread)
    for _ in range(2):
        await set_run(storage, await queue(storage, thread), queued_at=PAST)
    other = await make_run(storage, await make_thread(storage))
    await set_run(storage, other, queued_at=(await get_run(storage, other)).queued_at - 100)
    await claimed(storage, first)
    census = await storage.stale_runs.census()
    assert census.runs == {"in_progress": 1, "queued": 1, "waiting": 2}
    assert 100 <= census.oldest_queued < 10_000
