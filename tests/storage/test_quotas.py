"""Quotas: what is one too many is refused before anything is stored, across servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from storage import Storage, tables
from storage.claims import MessageEnd, RunEnd, StepEnd
from storage.database import Database
from storage.errors import Quota, QuotaExceeded
from storage.pages import PageRequest
from storage.quotas import MINUTE, Quotas
from storage.rows import Project, table
from storage.tables import RunStatus, StepStatus, Thread
from tests.support.storage.everything import do_everything
from tests.support.storage.recording import transactions
from tests.support.storage.rows import (
    PROJECT,
    add_project,
    claimed,
    execute,
    fetch,
    make_assistant,
    make_run,
    new_run,
    now_of,
    start_message,
    text_part,
    user,
)

MOST = 5
USAGE = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
PROJECTS = table(tables.Project)
KEPT = (tables.Thread, tables.Message, tables.Run, tables.RunStep, tables.Project)

Call = Callable[[Storage, Thread], Awaitable[Any]]


async def begin(storage: Storage, number: int = 0) -> Thread:
    """A thread with so many messages."""
    return await storage.threads.create(PROJECT, {}, {}, [user("Hi")] * number)


def thread_with(number: int) -> Call:
    return lambda storage, _: begin(storage, number)


def run_with(number: int) -> Call:
    """A run of a thread, behind the one that may be active there, with so many messages."""
    return lambda storage, thread: storage.runs.create(
        PROJECT, thread.id, new_run(), [user("Hi")] * number, queue=True
    )


def run_and_thread_with(number: int) -> Call:
    return lambda storage, _: storage.runs.create_with_thread(
        PROJECT, {}, {}, [user("Hi")] * number, new_run()
    )


async def message(storage: Storage, thread: Thread) -> None:
    await storage.messages.create(PROJECT, thread.id, user("Hi"), queue=True)


async def messages(storage: Storage, thread: Thread) -> None:
    for _ in range(MOST):
        await message(storage, thread)


async def runs(storage: Storage, thread: Thread) -> None:
    """Runs as there can be: two of new threads, one of this one, and those that wait behind it."""
    for call in (run_and_thread_with(0), run_and_thread_with(1), *[run_with(0)] * (MOST - 2)):
        await call(storage, thread)


async def answer(storage: Storage, thread: Thread) -> None:
    """A run that writes a message."""
    claim = await claimed(storage, await make_run(storage, thread))
    step, written = await start_message(storage, claim)
    await storage.claims.save(
        claim,
        message=MessageEnd(written.id, [text_part("Hello.")]),
        steps=[StepEnd(step.id, StepStatus.completed, USAGE)],
        run=RunEnd(RunStatus.completed),
    )


async def copy(storage: Storage, thread: Thread) -> None:
    await storage.threads.copy(PROJECT, thread.id)


@dataclass(frozen=True)
class Case:
    """A quota, what fills it up, what is refused then, and what is not."""

    quotas: Quotas
    fill: Call
    refused: Sequence[Call]
    admitted: Sequence[Call]


OF_RUNS = (run_with(0), run_with(1), run_and_thread_with(0), run_and_thread_with(2))
OF_MESSAGES = (message, thread_with(1), thread_with(3), copy)
CASES = {
    Quota.active_runs: Case(Quotas(active_runs=MOST), runs, OF_RUNS, OF_MESSAGES),
    Quota.runs_per_minute: Case(Quotas(runs_per_minute=MOST), runs, OF_RUNS, OF_MESSAGES),
    Quota.tokens_per_minute: Case(Quotas(tokens_per_minute=50), answer, OF_RUNS, OF_MESSAGES),
    Quota.messages: Case(
        Quotas(messages=MOST), messages, (*OF_MESSAGES, *OF_RUNS), (thread_with(0),)
    ),
}
WALKED = pytest.mark.parametrize("quota", Quota)

Servers = Callable[[Quotas], list[Storage]]


@pytest.fixture
async def servers(database_url: str) -> AsyncIterator[Servers]:
    """Makes two servers on one database, in which PROJECT and its assistant are."""
    databases = [Database(database_url) for _ in range(2)]
    first = Storage(databases[0])
    await add_project(first)
    await make_assistant(first)
    yield lambda quotas: [Storage(database, quotas=quotas) for database in databases]
    for database in databases:
        await database.close()


async def stored(storage: Storage) -> list[list[Any]]:
    return [sorted(await fetch(storage, sa.select(table(model)))) for model in KEPT]


async def count(storage: Storage, model: type[SQLModel]) -> int:
    [(number,)] = await fetch(storage, sa.select(sa.func.count()).select_from(table(model)))
    return int(number)


async def project(storage: Storage) -> Project:
    [found] = await fetch(storage, sa.select(PROJECTS).where(PROJECTS.c.id == PROJECT), Project)
    return found  # type: ignore[no-any-return]


@WALKED
async def test_what_is_too_much_is_refused_and_nothing_of_it_stored(
    servers: Servers, quota: Quota
) -> None:
    case = CASES[quota]
    one, other = servers(case.quotas)
    thread = await begin(one)
    await case.fill(one, thread)
    before = await stored(other)
    for call in case.refused:
        for storage in (one, other):
            with pytest.raises(QuotaExceeded) as refused:
                await call(storage, thread)
            assert refused.value.quota == quota
            assert await stored(other) == before
    for call in case.admitted:
        await call(other, thread)


@pytest.mark.parametrize(
    ("quota", "call", "model"),
    [
        (Quota.active_runs, run_and_thread_with(0), tables.Run),
        (Quota.active_runs, run_with(0), tables.Run),
        (Quota.runs_per_minute, run_and_thread_with(0), tables.Run),
        (Quota.messages, thread_with(1), tables.Message),
        (Quota.messages, message, tables.Message),
    ],
)
async def test_the_last_place_is_given_once(
    servers: Servers, quota: Quota, call: Call, model: type[SQLModel]
) -> None:
    both = servers(CASES[quota].quotas)
    threads = [await begin(both[0]) for _ in range(4 * MOST)]
    outcomes = await asyncio.gather(
        *(call(both[place % 2], thread) for place, thread in enumerate(threads)),
        return_exceptions=True,
    )
    errors = [each for each in outcomes if isinstance(each, BaseException)]
    assert {type(each) for each in errors} == {QuotaExceeded}
    assert len(errors) == 3 * MOST
    assert await count(both[0], model) == MOST


async def test_batches_take_a_place_for_each_message(servers: Servers) -> None:
    storage, _ = servers(Quotas(messages=MOST))
    thread = await begin(storage, 3)
    for call in (thread_with(3), copy, run_with(2), run_and_thread_with(2)):
        with pytest.raises(QuotaExceeded):
            await call(storage, thread)
    await run_with(1)(storage, thread)
    await message(storage, thread)
    assert await count(storage, tables.Message) == MOST


async def test_what_is_deleted_or_ends_makes_room(servers: Servers) -> None:
    storage, other = servers(Quotas(messages=2, active_runs=1))
    thread = await begin(storage)
    await answer(storage, thread)
    await message(other, thread)
    [newest] = (await storage.messages.list(PROJECT, thread.id, PageRequest(limit=1))).data
    await storage.messages.delete(PROJECT, thread.id, newest.id)
    await run_with(0)(other, thread)
    with pytest.raises(QuotaExceeded):
        await run_and_thread_with(0)(other, thread)
    await storage.threads.delete(PROJECT, thread.id)
    assert (await project(storage)).messages == 0
    await run_and_thread_with(1)(other, thread)


@pytest.mark.parametrize("quota", [Quota.runs_per_minute, Quota.tokens_per_minute])
async def test_what_has_a_rate_says_when_there_is_room(servers: Servers, quota: Quota) -> None:
    case = CASES[quota]
    storage, _ = servers(case.quotas)
    thread = await begin(storage)
    await case.fill(storage, thread)
    with pytest.raises(QuotaExceeded) as refused:
        await run_with(0)(storage, thread)
    wait = refused.value.retry_after
    assert wait is not None
    # Twice a minute's tokens are too many for a minute, the last of some runs for its share of one.
    assert 0 < wait <= (MINUTE if quota == Quota.tokens_per_minute else MINUTE / MOST)
    columns = (PROJECTS.c.runs_free_at, PROJECTS.c.tokens_free_at)
    await execute(storage, sa.update(PROJECTS).values({each: each - wait for each in columns}))
    await run_with(0)(storage, thread)


async def test_what_was_stored_without_a_quota_is_counted(servers: Servers) -> None:
    free, _ = servers(Quotas())
    limited, other = servers(Quotas(messages=MOST))
    thread = await begin(free, 2)
    await message(limited, thread)
    await message(free, thread)
    # As at the start of a server that has the quota.
    await other.counts.forget()
    await message(limited, thread)
    with pytest.raises(QuotaExceeded):
        await message(other, thread)


async def test_what_is_counted_is_what_is_stored(storage: Storage) -> None:
    await do_everything(storage)
    assert (await project(storage)).messages == await count(storage, tables.Message)


COSTS = {"CreateThread": (3, 5), "CreateMessage": (4, 6), "CreateRun": (5, 8)}
"""Statements of calls, without quotas and with all of them."""


@pytest.mark.parametrize("limited", [False, True])
async def test_what_quotas_cost(servers: Servers, limited: bool) -> None:
    many = 10**6 if limited else None
    storage, _ = servers(Quotas(many, many, many, many))
    thread = await begin(storage, 1)
    calls = {"CreateThread": thread_with(1), "CreateMessage": message, "CreateRun": run_with(0)}
    with transactions() as ended:
        for call in calls.values():
            await call(storage, thread)
    found = dict(zip(calls, (len(each.statements) for each in ended), strict=True))
    assert found == {name: costs[limited] for name, costs in COSTS.items()}


async def test_the_time_of_the_database_counts(servers: Servers) -> None:
    storage, _ = servers(Quotas(runs_per_minute=MOST))
    before = await now_of(storage)
    await run_and_thread_with(0)(storage, await begin(storage))
    free_at = (await project(storage)).runs_free_at
    assert free_at is not None
    assert before <= free_at - MINUTE / MOST <= await now_of(storage)
