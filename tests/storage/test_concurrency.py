"""Many writers on one thread, of one server and of two, on both databases.

A thread is one line of positions. Whatever the writers do at the same time, it must read like one
conversation: a run sees every message that was accepted before it, none is accepted until it ends,
and nothing that was accepted is lost.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from storage import Storage
from storage.claims import MessageEnd, RunEnd, StepEnd
from storage.database import Database
from storage.errors import ActiveRun, NotFound, StorageError
from storage.pages import PageRequest
from storage.quotas import Quotas
from storage.tables import Message, Run, RunStatus, StepStatus
from tests.support.storage.rows import (
    PROJECT,
    add_project,
    claimed,
    make_run,
    make_thread,
    new_run,
    start_message,
    start_tool_calls,
    text_part,
    user,
)

POSTERS, RUNNERS, DELETERS = 9, 7, 4
ROUNDS = 20


@dataclass
class Accepted:
    """Something that was accepted: its position, and when the call began and returned."""

    id: str
    position: str
    began: int
    returned: int


@dataclass
class FinishedRun(Accepted):
    """A run that has come to its end; `read` is what its model was shown."""

    context_until: str
    last_position: str
    read: set[str]


@dataclass
class Conversation:
    """One thread, and everything that its writers were answered."""

    thread_id: str
    messages: list[Accepted] = field(default_factory=list)
    runs: list[FinishedRun] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    ticks: Iterator[int] = field(default_factory=itertools.count)

    async def post(self, storage: Storage) -> None:
        """Adds messages, unless a run is active."""
        for number in range(ROUNDS):
            began = next(self.ticks)
            try:
                made = await storage.messages.create(PROJECT, self.thread_id, user(str(number)))
            except ActiveRun:
                continue
            self.messages.append(Accepted(made.id, made.position, began, next(self.ticks)))

    async def run(self, storage: Storage) -> None:
        """Creates runs with a message of their own, unless one is active; and answers them."""
        for number in range(ROUNDS):
            began = next(self.ticks)
            try:
                created = await storage.runs.create(
                    PROJECT, self.thread_id, new_run(), [user(f"run {number}")]
                )
            except ActiveRun:
                continue
            returned = next(self.ticks)
            run = created.run
            last, read = await self._answer(storage, run)
            self.runs.append(
                FinishedRun(run.id, run.position, began, returned, run.context_until, last, read)
            )

    async def _answer(self, storage: Storage, run: Run) -> tuple[str, set[str]]:
        claim = await storage.claims.claim(run.id)
        assert claim is not None
        context = await storage.claims.context(run, 10_000)
        step, message = await start_message(storage, claim)
        saved = await storage.claims.save(
            claim,
            message=MessageEnd(message.id, [text_part("answer")]),
            steps=[StepEnd(step.id, StepStatus.completed)],
            run=RunEnd(RunStatus.completed),
        )
        if saved.message is not None:
            self.answers.append(saved.message)
        return message.position, {each.id for each in context.messages}

    async def delete(self, storage: Storage) -> None:
        """Deletes messages, also while a run is active, and also those that are being written."""
        for _ in range(ROUNDS):
            page = await storage.messages.list(PROJECT, self.thread_id, PageRequest(limit=5))
            if not page.data:
                continue
            chosen = random.choice(page.data).id
            self.deleted.add(chosen)
            try:
                await storage.messages.delete(PROJECT, self.thread_id, chosen)
            except NotFound:
                continue  # Another deleter was faster.


MANY = 10**6
PLENTY = Quotas(active_runs=MANY, runs_per_minute=MANY, tokens_per_minute=MANY, messages=MANY)
SERVERS = {
    "one server": (1, Quotas()),
    "two servers": (2, Quotas()),
    "two servers with quotas": (2, PLENTY),
}


@pytest.fixture(params=SERVERS.values(), ids=[*SERVERS])
async def servers(
    request: pytest.FixtureRequest, database_url: str
) -> AsyncIterator[list[Storage]]:
    """Storage on one database, with a pool of connections each."""
    number, quotas = request.param
    servers = [Storage(Database(database_url), quotas=quotas) for _ in range(number)]
    await add_project(servers[0])
    yield servers
    for server in servers:
        await server.database.close()


async def test_a_thread_stays_one_conversation(servers: list[Storage]) -> None:
    thread = await make_thread(servers[0])
    conversation = Conversation(thread.id)
    storages = itertools.cycle(servers)
    writers: list[Coroutine[None, None, None]] = [
        *(conversation.post(next(storages)) for _ in range(POSTERS)),
        *(conversation.run(next(storages)) for _ in range(RUNNERS)),
        *(conversation.delete(next(storages)) for _ in range(DELETERS)),
    ]
    random.shuffle(writers)
    await asyncio.gather(*writers)

    runs = sorted(conversation.runs, key=lambda run: run.position)
    assert runs
    await _nothing_is_lost(servers[-1], conversation)
    for message in conversation.messages:
        for run in runs:
            _on_one_side(message, run)
            assert message.id in conversation.deleted | run.read or (
                message.position > run.context_until
            ), "a run missed a message"
    for earlier, later in pairwise(runs):
        assert earlier.last_position < later.context_until, "two runs were active at once"
    # A call that began when another had returned has the later position.
    accepted = [*conversation.messages, *runs]
    for one, other in itertools.product(accepted, accepted):
        if one.returned < other.began:
            assert one.position < other.position


def _on_one_side(message: Accepted, run: FinishedRun) -> None:
    """A message is before a run, which then reads it, or behind all that the run has written."""
    before = message.position <= run.context_until
    assert before != (message.position > run.last_position), "accepted while a run was active"
    if message.returned < run.began:
        assert before


async def _nothing_is_lost(storage: Storage, conversation: Conversation) -> None:
    stored: list[Message] = []
    request = PageRequest(limit=100, order="asc")
    while True:
        page = await storage.messages.list(PROJECT, conversation.thread_id, request)
        stored += page.data
        if not page.has_more:
            break
        request = PageRequest(limit=100, order="asc", after=page.data[-1].id)
    ids = {each.id for each in stored}
    accepted = {each.id for each in conversation.messages}
    accepted |= {each.id for each in conversation.answers}
    assert accepted - conversation.deleted <= ids
    assert not ids & conversation.deleted
    assert len(stored) == len(ids)
    assert {each.status for each in stored} <= {"completed"}
    thread = await storage.threads.get(PROJECT, conversation.thread_id)
    runs = await storage.runs.list(PROJECT, conversation.thread_id, PageRequest(limit=100))
    assert {each.id for each in runs.data} == {each.id for each in conversation.runs}
    assert {each.status for each in runs.data} == {"completed"}
    positions = [each.position for each in (*conversation.messages, *conversation.runs)]
    assert len(set(positions)) == len(positions)
    assert thread.last_position is not None
    assert max(positions) <= thread.last_position


async def test_everything_at_once_ends_in_storage_errors_at_worst(servers: list[Storage]) -> None:
    """No deadlock, no broken constraint: who comes too late gets an error of storage's own."""
    for _ in range(ROUNDS):
        thread = await make_thread(servers[0], "one", "two")
        run = await make_run(servers[0], thread)
        claim = await claimed(servers[0], run)
        step, message = await start_message(servers[0], claim)
        attempts = [
            each
            for storage in servers
            for each in (
                storage.claims.renew(claim),
                storage.claims.release(claim),
                storage.claims.claim(run.id),
                start_tool_calls(storage, claim),
                storage.claims.save(
                    claim,
                    message=MessageEnd(message.id, [text_part("answer")]),
                    steps=[StepEnd(step.id, StepStatus.completed)],
                    run=RunEnd(RunStatus.completed),
                ),
                storage.stale_runs.end(run.id, RunStatus.cancelled),
                storage.runs.cancel(PROJECT, thread.id, run.id),
                storage.runs.modify(PROJECT, thread.id, run.id, {"metadata_": {"a": "1"}}),
                storage.runs.create(PROJECT, thread.id, new_run(), [user("three")]),
                storage.messages.delete(PROJECT, thread.id, message.id),
                storage.threads.modify(PROJECT, thread.id, {"metadata_": {"a": "1"}}),
                storage.threads.delete(PROJECT, thread.id),
            )
        ]
        random.shuffle(attempts)
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        errors = [each for each in outcomes if isinstance(each, BaseException)]
        assert [each for each in errors if not isinstance(each, StorageError)] == []
        with pytest.raises(NotFound):
            await servers[0].threads.get(PROJECT, thread.id)
