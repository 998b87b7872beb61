from typing import Any

import pytest

from storage import Storage, rows
from storage.claims import RunEnd, StepEnd
from storage.errors import NotAwaitingOutputs, NotCancellable, NotFound, WrongToolOutputs
from storage.pages import PageRequest
from storage.tables import ACTIVE, Run, RunStatus, RunStep, StepStatus, Thread
from tests.support.storage.rows import (
    DATABASE_ERRORS,
    PROJECT,
    call,
    claimed,
    get_run,
    make_run,
    make_thread,
    new_run,
    set_run,
    start_tool_calls,
    user,
)


async def awaiting(storage: Storage, thread: Thread, *call_ids: str) -> tuple[Run, RunStep]:
    """A run that awaits the outputs of these calls, and the step that holds them."""
    claim = await claimed(storage, await make_run(storage, thread))
    step = await start_tool_calls(storage, claim)
    details = {"type": "tool_calls", "tool_calls": [call(each) for each in call_ids]}
    saved = await storage.claims.save(
        claim,
        steps=[StepEnd(step.id, StepStatus.in_progress, step_details=details)],
        run=RunEnd(RunStatus.requires_action),
    )
    assert saved.run is not None
    return saved.run, saved.steps[0]


async def test_a_new_run_is_queued_and_reads_up_to_its_messages(storage: Storage) -> None:
    thread = await make_thread(storage, "one")
    tools = [{"type": "function", "function": {"name": "f"}}]
    new = new_run(metadata_={"k": "v"}, tools=tools)
    run = (await storage.runs.create(PROJECT, thread.id, new, [user("two"), user("three")])).run
    assert run.id == f"run_{run.position}"
    assert (run.status, run.attempt, run.waiting, run.lease_until) == ("queued", 0, False, None)
    assert run.expires_at == run.created_at + 600
    assert (run.started_at, run.usage, run.last_error) == (None, None, None)
    assert (run.metadata_, run.tools) == ({"k": "v"}, tools)
    messages = (await storage.messages.list(PROJECT, thread.id, PageRequest(order="asc"))).data
    assert [m.content[0]["text"]["value"] for m in messages] == ["one", "two", "three"]
    assert messages[-1].position == run.context_until < run.position
    found = await storage.runs.get(PROJECT, thread.id, run.id)
    assert (found.run, found.pending) == (run, None)


async def test_a_run_of_an_empty_thread(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage))
    assert run.context_until < run.position


async def test_a_refused_run_adds_no_messages(storage: Storage) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    with pytest.raises(Exception, match=run.id):
        await storage.runs.create(PROJECT, thread.id, new_run(), [user("too late")])
    assert (await storage.messages.list(PROJECT, thread.id, PageRequest())).data == []


@pytest.mark.parametrize("status", list(RunStatus))
async def test_the_database_itself_refuses_a_second_active_run(
    storage: Storage, status: RunStatus
) -> None:
    """Past the check that the application makes, the partial unique index holds."""
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    await set_run(storage, run, status=status)
    copy = rows.values(run) | {"id": "run_copy", "position": "7" * 26}
    if status in ACTIVE:
        with pytest.raises(DATABASE_ERRORS, match=r"(?i)unique"):
            await _insert(storage, copy)
        # Those that wait behind it are not in the index.
        await _insert(storage, copy | {"waiting": True})
    else:
        await _insert(storage, copy)


async def _insert(storage: Storage, values: dict[str, Any]) -> None:
    await storage.database.write(lambda tx: tx.insert(rows.Run(**values)))


async def test_modify(storage: Storage) -> None:
    thread = await make_thread(storage)
    run, step = await awaiting(storage, thread, "call_a")
    changes = {"metadata_": {"a": "1"}}
    modified = await storage.runs.modify(PROJECT, thread.id, run.id, changes)
    assert modified.run.metadata_ == {"a": "1"}
    assert modified.pending == step
    assert await get_run(storage, run) == modified.run


async def test_a_run_is_found_under_its_own_thread_only(storage: Storage) -> None:
    thread, other = await make_thread(storage), await make_thread(storage)
    run = await make_run(storage, thread)
    for attempt in (
        storage.runs.get(PROJECT, other.id, run.id),
        storage.runs.modify(PROJECT, other.id, run.id, {"metadata_": {}}),
        storage.runs.cancel(PROJECT, other.id, run.id),
        storage.runs.submit_tool_outputs(PROJECT, other.id, run.id, []),
        storage.runs.list_steps(PROJECT, other.id, run.id, PageRequest()),
        storage.runs.get_step(PROJECT, other.id, run.id, "step_x"),
    ):
        with pytest.raises(NotFound) as error:
            await attempt
        assert (error.value.kind, error.value.id) == ("run", run.id)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_cancel_asks_whoever_has_the_run_to_stop(storage: Storage, status: str) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    if status == "in_progress":
        await claimed(storage, run)
    ended = await storage.runs.cancel(PROJECT, thread.id, run.id)
    assert (ended.run.status, ended.run.cancelled_at) == ("cancelling", None)
    assert (ended.run.expires_at, ended.steps, ended.messages) == (run.expires_at, [], [])


async def test_cancel_while_outputs_are_awaited_ends_the_run(storage: Storage) -> None:
    thread = await make_thread(storage)
    run, step = await awaiting(storage, thread, "call_a")
    ended = await storage.runs.cancel(PROJECT, thread.id, run.id)
    assert (ended.run.status, ended.run.expires_at) == ("cancelled", None)
    assert ended.run.cancelled_at is not None
    assert [(each.id, each.status) for each in ended.steps] == [(step.id, "cancelled")]
    found = await storage.runs.get(PROJECT, thread.id, run.id)
    assert (found.run, found.pending) == (ended.run, None)


@pytest.mark.parametrize(
    "status", ["cancelling", "cancelled", "failed", "completed", "incomplete", "expired"]
)
async def test_what_has_ended_or_is_ending_cannot_be_cancelled(
    storage: Storage, status: str
) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    await set_run(storage, run, status=status)
    with pytest.raises(NotCancellable) as error:
        await storage.runs.cancel(PROJECT, thread.id, run.id)
    assert error.value.status == status


async def test_outputs_complete_the_step_and_queue_the_run(storage: Storage) -> None:
    thread = await make_thread(storage)
    run, step = await awaiting(storage, thread, "call_a", "call_b")
    assert (await storage.runs.get(PROJECT, thread.id, run.id)).pending == step
    # The list has it too, as of the moment at which it read the run.
    listed = await storage.runs.list(PROJECT, thread.id, PageRequest())
    assert (listed.data, listed.pending) == ([run], step)
    submitted = await storage.runs.submit_tool_outputs(
        PROJECT, thread.id, run.id, [("call_b", "2"), ("call_a", "")]
    )
    assert (submitted.run.status, submitted.run.lease_until) == ("queued", None)
    assert submitted.run.queued_at >= run.queued_at
    assert submitted.step.status == "completed"
    assert submitted.step.completed_at is not None
    assert submitted.step.step_details["tool_calls"] == [call("call_a", ""), call("call_b", "2")]
    assert await storage.runs.get_step(PROJECT, thread.id, run.id, step.id) == submitted.step
    assert (await claimed(storage, run)).attempt > run.attempt


@pytest.mark.parametrize(
    "got", [[], ["call_a"], ["call_a", "call_c"], ["call_a", "call_b", "call_b"]]
)
async def test_outputs_must_be_those_of_the_pending_calls(storage: Storage, got: list[str]) -> None:
    thread = await make_thread(storage)
    run, step = await awaiting(storage, thread, "call_a", "call_b")
    with pytest.raises(WrongToolOutputs) as error:
        await storage.runs.submit_tool_outputs(
            PROJECT, thread.id, run.id, [(each, "1") for each in got]
        )
    assert (error.value.expected, error.value.got) == (["call_a", "call_b"], got)
    found = await storage.runs.get(PROJECT, thread.id, run.id)
    assert (found.run, found.pending) == (run, step)


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.requires_action}))
async def test_outputs_that_nobody_awaits(storage: Storage, status: str) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    await set_run(storage, run, status=status)
    with pytest.raises(NotAwaitingOutputs) as error:
        await storage.runs.submit_tool_outputs(PROJECT, thread.id, run.id, [("call_a", "1")])
    assert error.value.status == status


async def test_an_unknown_step(storage: Storage) -> None:
    thread = await make_thread(storage)
    run, step = await awaiting(storage, thread, "call_a")
    assert await storage.runs.get_step(PROJECT, thread.id, run.id, step.id) == step
    with pytest.raises(NotFound) as error:
        await storage.runs.get_step(PROJECT, thread.id, run.id, "step_x")
    assert (error.value.kind, error.value.id) == ("run step", "step_x")


async def test_statuses_of_many_runs(storage: Storage) -> None:
    runs = [await make_run(storage, await make_thread(storage)) for _ in range(4)]
    await claimed(storage, runs[1])
    await set_run(storage, runs[2], status=RunStatus.failed)
    await storage.threads.delete(PROJECT, runs[3].thread_id)
    # More than either database takes in one statement.
    others = [f"run_{number}" for number in range(33_000)]
    asked = [runs[0].id, *others, *[run.id for run in runs[1:]]]
    assert await storage.runs.statuses(asked) == {
        runs[0].id: RunStatus.queued,
        runs[1].id: RunStatus.in_progress,
        runs[2].id: RunStatus.failed,
    }
    assert await storage.runs.statuses([]) == {}
