"""Everything that storage can do, done once: so that each of its statements is executed."""

from typing import Any

import pytest

from storage import Storage, packed_vectors
from storage.claims import Claim, MessageEnd, RunEnd, StepEnd
from storage.errors import SessionElsewhere
from storage.files import NewBlob
from storage.openings import open_tool_calls
from storage.packed_vectors import PackedVectors
from storage.pages import PageRequest
from storage.quotas import Quotas
from storage.resources import NOTHING
from storage.scope import Scope
from storage.segments import NewChunk
from storage.tables import Run, RunStatus, StepStatus, Thread
from storage.transaction import Transaction
from tests.support.storage import everything_searched
from tests.support.storage.rows import (
    PROJECT,
    add_project,
    assistant_values,
    call,
    claimed,
    make_run,
    make_thread,
    new_run,
    set_run,
    start_message,
    start_tool_calls,
    text_part,
    user,
)

PAST = 1.0
MANY = 10**6
USAGE = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
METADATA = {"metadata_": {"a": "1"}}
ENDS = {RunStatus.completed: StepStatus.completed, RunStatus.failed: StepStatus.failed}


async def do_everything(storage: Storage, *, sessions: bool = True) -> None:
    """Calls every method of every repository, in all ways that differ by their statements.

    Those of the code interpreter's sessions only where there are `sessions`.
    """
    for calls in (
        _assistants,
        _threads,
        _messages,
        _runs,
        _work,
        _ends,
        _outsiders,
        _keys,
        _files,
        _uploads,
        _segments,
        *((_sessions,) if sessions else ()),
        everything_searched.vector_stores,
        everything_searched.indexing,
        everything_searched.resources,
        # What the others store is not counted.
        _quotas,
    ):
        await calls(storage)


async def _assistants(storage: Storage) -> None:
    made = await storage.assistants.create(PROJECT, assistant_values())
    await storage.assistants.get(PROJECT, made.id)
    await storage.assistants.list(PROJECT, PageRequest())
    await storage.assistants.modify(PROJECT, made.id, METADATA)
    await storage.assistants.delete(PROJECT, made.id)
    await storage.assistants.create(PROJECT, assistant_values())


async def _threads(storage: Storage) -> None:
    thread = await make_thread(storage, "one", "two")
    await storage.threads.get(PROJECT, thread.id)
    await storage.threads.list(PROJECT, PageRequest(), {})
    await storage.threads.list(PROJECT, PageRequest(), {"a": "1"})
    await storage.threads.modify(PROJECT, thread.id, METADATA)
    await storage.threads.copy(PROJECT, thread.id)
    [message] = (await storage.messages.list(PROJECT, thread.id, PageRequest(limit=1))).data
    await storage.threads.copy(PROJECT, thread.id, message.id)
    await storage.threads.existing([thread.id])
    await make_run(storage, thread)
    await storage.threads.delete(PROJECT, thread.id)


async def _messages(storage: Storage) -> None:
    thread = await make_thread(storage)
    message = await storage.messages.create(PROJECT, thread.id, user("Hi"))
    await storage.messages.get(PROJECT, thread.id, message.id)
    await storage.messages.list(PROJECT, thread.id, PageRequest())
    await storage.messages.list(PROJECT, thread.id, PageRequest(), "run_1")
    await storage.messages.modify(PROJECT, thread.id, message.id, METADATA)
    await storage.messages.delete(PROJECT, thread.id, message.id)


async def _runs(storage: Storage) -> None:
    await storage.runs.create_with_thread(PROJECT, {}, NOTHING, [user("Hi")], new_run())
    thread = await make_thread(storage)
    run = (await storage.runs.create(PROJECT, thread.id, new_run(), [user("Hi")])).run
    await storage.runs.get(PROJECT, thread.id, run.id)
    await storage.runs.list(PROJECT, thread.id, PageRequest())
    await storage.runs.modify(PROJECT, thread.id, run.id, METADATA)
    await storage.runs.statuses([run.id])
    claim = await claimed(storage, run)
    step = await _asks(storage, claim)
    await storage.runs.get(PROJECT, thread.id, run.id)
    await storage.runs.list_steps(PROJECT, thread.id, run.id, PageRequest())
    await storage.runs.get_step(PROJECT, thread.id, run.id, step)
    await storage.runs.submit_tool_outputs(PROJECT, thread.id, run.id, [("call_1", "3")])
    await storage.runs.cancel(PROJECT, thread.id, run.id)
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    await _asks(storage, await claimed(storage, run))
    await storage.runs.cancel(PROJECT, thread.id, run.id)


async def _asks(storage: Storage, claim: Claim) -> str:
    """Has a run call a function; returns the step's id."""
    step = await start_tool_calls(storage, claim)
    details = {"type": "tool_calls", "tool_calls": [call("call_1")]}
    await storage.claims.save(
        claim,
        steps=[StepEnd(step.id, StepStatus.in_progress, {}, step_details=details, replay={})],
        run=RunEnd(RunStatus.requires_action),
    )
    return step.id


async def _work(storage: Storage) -> None:
    run = await make_run(storage, await make_thread(storage, "one", "two"))
    claim = await claimed(storage, run)
    await storage.claims.renew(claim)
    await storage.claims.held([claim])
    context = await storage.claims.context(run, 1)
    await storage.claims.earlier(run, context.messages[0], 1)
    calls = await start_tool_calls(storage, claim)
    await start_message(storage, claim, ahead_of=calls)
    await storage.claims.release(claim)
    claim = await claimed(storage, run)
    step, message = await start_message(storage, claim)
    await storage.claims.save(claim, message=MessageEnd(message.id, [text_part("Hi")]))
    await storage.claims.save(
        claim,
        begun=[open_tool_calls(claim.run, 0, after=claim.last_position)],
        steps=[StepEnd(step.id, StepStatus.completed, USAGE, step_details=step.step_details)],
    )


async def _ends(storage: Storage) -> None:
    for status in (
        RunStatus.completed,
        RunStatus.failed,
        RunStatus.incomplete,
        RunStatus.cancelled,
        RunStatus.expired,
    ):
        thread = await make_thread(storage)
        claim = await claimed(storage, await make_run(storage, thread))
        waiting = await storage.runs.create(PROJECT, thread.id, new_run(), [], queue=True)
        step, message = await start_message(storage, claim)
        if status == RunStatus.cancelled:
            await storage.runs.cancel(PROJECT, thread.id, claim.run.id)
        saved = await storage.claims.save(
            claim,
            message=MessageEnd(message.id, [], "run_failed"),
            steps=[StepEnd(step.id, ENDS.get(status, StepStatus.cancelled))],
            run=RunEnd(status),
        )
        assert saved.released is not None and saved.released.id == waiting.run.id


async def _outsiders(storage: Storage) -> None:
    for status in (RunStatus.cancelled, RunStatus.expired):
        thread, run = await _abandoned(storage)
        if status == RunStatus.cancelled:
            await storage.runs.cancel(PROJECT, thread.id, run.id)
        else:
            await set_run(storage, run, expires_at=1)
        await set_run(storage, run, lease_until=PAST)
        assert await storage.stale_runs.end(run.id, status) is not None
    thread, _ = await _abandoned(storage)
    await storage.threads.delete(PROJECT, thread.id)
    await storage.stale_runs.find(0)
    await storage.stale_runs.census()


async def _keys(storage: Storage) -> None:
    key = await storage.keys.create("alpha", "one", "digest")
    await storage.keys.ensure("alpha", "two", "other digest")
    await storage.keys.revoke(key.id)
    await storage.keys.list()
    await storage.keys.projects()
    await storage.keys.valid()


async def _sessions(storage: Storage) -> None:
    thread = await make_thread(storage)
    assert await storage.sessions.opened(thread.id, "session", "server") is None
    assert await storage.sessions.is_newest(thread.id, "session")
    elsewhere = Storage(storage.database, server="another")
    run = await make_run(elsewhere, thread, tools=[{"type": "code_interpreter"}])
    with pytest.raises(SessionElsewhere):
        await elsewhere.claims.claim(run.id)
    assert await storage.sessions.closed(thread.id, "session")


async def _quotas(storage: Storage) -> None:
    await add_project(storage)
    quotas = Quotas(active_runs=MANY, runs_per_minute=MANY, tokens_per_minute=MANY, messages=MANY)
    limited = Storage(storage.database, quotas=quotas)
    await limited.counts.forget()
    counted = (_threads, _messages, _runs, _work, _ends, _outsiders, everything_searched.resources)
    for calls in counted:
        await calls(limited)


async def _abandoned(storage: Storage) -> tuple[Thread, Run]:
    """Inserts a run whose worker has begun a message."""
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    await start_message(storage, await claimed(storage, run))
    return thread, run


async def _segments(storage: Storage) -> None:
    scope = Scope(("vs_1",))
    segment = await storage.segments.begin(PROJECT, "vs_1", "an embedder")
    await storage.segments.add(PROJECT, segment, 0, [NewChunk(0, 2, "some words")], add_vectors)
    await storage.segments.with_words(PROJECT, scope, "words", 9)
    await storage.segments.found(PROJECT, [1])
    await storage.segments.chunks(PROJECT, segment, 0, 9)
    vectors = PackedVectors(storage.database)
    await vectors.segments(PROJECT, scope)
    await vectors.rows(PROJECT, [segment])
    await storage.database.read(lambda tx: packed_vectors.first_of_segment(tx, segment))
    assert await storage.segments.orphans(-60) == [segment]
    assert await storage.segments.remove(segment, _remove_vectors)


def add_vectors(tx: Transaction, first: int) -> int:
    packed_vectors.add(tx, first, 1, b"12345678")
    return 8


def _remove_vectors(tx: Transaction, first: int) -> int:
    packed_vectors.remove(tx, first)
    return 8


async def _files(storage: Storage) -> None:
    values: dict[str, Any] = {"filename": "a", "purpose": "assistants", "expires_after": None}
    file = await storage.files.create(PROJECT, values, NewBlob("blob_1", 1))
    await storage.files.get(PROJECT, file.id)
    await storage.files.content(PROJECT, file.id)
    await storage.files.list(PROJECT, PageRequest())
    await storage.files.list(PROJECT, PageRequest(), "assistants")
    await storage.files.unknown_blobs(["blob_1"])
    await storage.files.delete(PROJECT, file.id)
    await storage.files.expired()
    await storage.files.expire(PROJECT, file.id)
    await storage.files.create(PROJECT, values, NewBlob("blob_2", 1))


async def _uploads(storage: Storage) -> None:
    values: dict[str, Any] = {"filename": "a", "purpose": "assistants", "expires_after": None}
    values |= {"bytes": 1, "mime_type": "text/plain"}
    for end in ("complete", "cancel", "expire"):
        id = (await storage.uploads.create(PROJECT, values)).id
        await storage.uploads.check_pending(PROJECT, id)
        part = await storage.uploads.add_part(PROJECT, id, NewBlob(f"part_{end}", 1))
        await storage.uploads.parts(PROJECT, id, [part.id])
        await storage.uploads.overdue()
        parts = ([part.id],) if end == "complete" else ()
        await getattr(storage.uploads, end)(PROJECT, id, *parts)
