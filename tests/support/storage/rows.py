"""What the storage tests insert: short ways to make valid rows, and to move runs along."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import Executable
from sqlmodel import col, update

from storage import Storage, assistants, ids, store_lock, thread_lock
from storage.attachments import AUTO
from storage.claims import Claim
from storage.file_tables import EntryStatus
from storage.messages import NewMessage
from storage.new_runs import Draft, NewRun
from storage.openings import open_message, open_tool_calls
from storage.resources import NOTHING
from storage.rows import Assistant, File, Project, VectorStore, VectorStoreFile
from storage.statements import Statement
from storage.tables import Message, Run, RunStep, Thread
from storage.transaction import Transaction

PROJECT = "proj_1"
OTHER = "proj_2"

ASSISTANT = "asst_1"
"""The assistant of runs that name no other one; it belongs to PROJECT."""

DATABASE_ERRORS = (sqlite3.Error, psycopg.Error)
"""What the drivers raise where a statement is refused."""


def text_part(text: str) -> dict[str, Any]:
    """A text part as messages store it."""
    return {"type": "text", "text": {"value": text, "annotations": []}}


def user(text: str) -> NewMessage:
    """A user's message."""
    return NewMessage("user", [text_part(text)])


def new_run(assistant_id: str = ASSISTANT, lifetime: int = 600, **changes: Any) -> Draft:
    """A run with defaults, but for `changes`; it takes nothing from its assistant."""
    values: dict[str, Any] = {
        "model": "a-model",
        "instructions": "Be brief.",
        "tools": [],
        "metadata_": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": "auto",
    }
    new = NewRun(assistant_id, values | changes, lifetime)
    return Draft(assistant_id, lambda _: new)


def assistant_values(**changes: Any) -> dict[str, Any]:
    """The columns of an assistant, but for `changes`."""
    return {
        "name": "Ann",
        "description": None,
        "model": "a-model",
        "instructions": "Be brief.",
        "tools": [],
        "tool_resources": NOTHING,
        "metadata_": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
        "reasoning_effort": None,
    } | changes


def call(id: str, output: str | None = None, name: str = "get_weather") -> dict[str, Any]:
    """A function call as tool call steps store it."""
    function = {"name": name, "arguments": "{}", "output": output}
    return {"id": id, "type": "function", "function": function}


async def make_assistant(storage: Storage) -> None:
    """Inserts ASSISTANT, unless it is there."""

    def make(tx: Transaction) -> None:
        if tx.one(assistants.GET, id=ASSISTANT) is None:
            position = ids.new_position()
            of_project = {"id": ASSISTANT, "project_id": PROJECT, "position": position}
            tx.insert(Assistant(**assistant_values(**of_project, created_at=1)))

    await storage.database.write(make, PROJECT)


async def add_project(storage: Storage) -> None:
    """Inserts the row of PROJECT, which keys or the quotas of the project need."""
    await storage.database.write(
        lambda tx: tx.insert(Project(id=PROJECT, name=PROJECT, created_at=1))
    )


async def make_thread(storage: Storage, *texts: str) -> Thread:
    """Inserts a thread with these messages of the user, and ASSISTANT for its runs."""
    await make_assistant(storage)
    return await storage.threads.create(PROJECT, {}, NOTHING, [user(text) for text in texts])


async def insert_thread(storage: Storage, id: str) -> None:
    """Inserts a thread of this id, without messages."""
    position = ids.new_position()
    row = Thread(id=id, project_id=PROJECT, position=position, created_at=1)
    row.metadata_, row.tool_resources = {}, {}
    await storage.database.write(lambda tx: tx.insert(row), PROJECT)


async def make_run(storage: Storage, thread: Thread, **changes: Any) -> Run:
    """Inserts a queued run."""
    return (await storage.runs.create(PROJECT, thread.id, new_run(**changes), [])).run


async def claimed(storage: Storage, run: Run) -> Claim:
    """Claims a run that is to be had."""
    claim = await storage.claims.claim(run.id)
    assert claim is not None
    return claim


async def start_message(
    storage: Storage, claim: Claim, ahead_of: RunStep | None = None
) -> tuple[RunStep, Message]:
    """Opens a step that writes a message, and the empty message, as an attempt does."""
    now = int(await now_of(storage))
    opening = open_message(claim.run, now, after=claim.last_position, ahead_of=ahead_of)
    await storage.claims.open(claim, opening)
    assert opening.message is not None
    return opening.step, opening.message


async def make_file(
    storage: Storage, filename: str = "a.txt", *, project: str = PROJECT, **changes: Any
) -> str:
    """Inserts a file without any bytes; returns its id."""
    position = ids.new_position()
    values: dict[str, Any] = {"purpose": "assistants", "bytes": 0, "created_at": 1} | changes
    row = File(
        id=f"file-{position}", project_id=project, position=position, filename=filename, **values
    )
    await storage.database.write(lambda tx: tx.insert(row))
    return row.id


async def fill_store(storage: Storage, store: VectorStore, count: int) -> list[str]:
    """Puts so many new files into a vector store, past all rules; returns their ids."""
    common: dict[str, Any] = {"project_id": store.project_id, "created_at": 1}
    files = [
        File(
            id=f"file-{position}",
            position=position,
            filename="a.txt",
            purpose="assistants",
            bytes=0,
            **common,
        )
        for position in (ids.new_position() for _ in range(count))
    ]
    rows = [
        VectorStoreFile(
            id=ids.make_id(ids.ENTRY, file.position),
            position=file.position,
            vector_store_id=store.id,
            file_id=file.id,
            status=EntryStatus.completed,
            queued_at=1.0,
            attributes={},
            chunking_strategy=dict(AUTO),
            **common,
        )
        for file in files
    ]

    def work(tx: Transaction) -> None:
        tx.insert(*files)
        tx.insert(*rows)
        store_lock.count(tx, store.id, {EntryStatus.completed: count})

    await storage.database.write(work, store.project_id)
    return [file.id for file in files]


async def start_tool_calls(storage: Storage, claim: Claim) -> RunStep:
    """Opens a step that calls tools, without calls yet, as an attempt does."""
    opening = open_tool_calls(claim.run, int(await now_of(storage)), after=claim.last_position)
    await storage.claims.open(claim, opening)
    return opening.step


async def now_of(storage: Storage) -> float:
    """The database's time."""
    return await storage.database.read(lambda tx: tx.now())


async def set_run(storage: Storage, run: Run, **columns: Any) -> None:
    """Overwrites columns of a run, past all rules: a lease or a lifetime that ran out."""
    await execute(storage, update(Run).where(col(Run.id) == run.id).values(**columns))


async def execute(storage: Storage, *cores: Executable) -> None:
    """Executes statements that return no rows in one transaction, past all rules."""
    await storage.database.write(lambda tx: [tx.run(Statement(core)) for core in cores])


async def fetch(storage: Storage, core: Executable, row: Any = None) -> list[Any]:
    """Returns what a statement selects, as rows of a class or as tuples."""
    return await storage.database.read(lambda tx: tx.all(Statement(core, row)))


@asynccontextmanager
async def holding(storage: Storage, thread_id: str, project: str = PROJECT) -> AsyncIterator[None]:
    """Holds the lock of a thread: on SQLite, of the whole file."""
    held, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(tx: Transaction) -> None:
        thread_lock.lock(tx, thread_id)
        loop.call_soon_threadsafe(held.set)
        assert released.wait(60)

    holder = asyncio.create_task(storage.database.write(hold, project))
    try:
        async with asyncio.timeout(60):
            await held.wait()
        yield
    finally:
        released.set()
        await holder


async def get_run(storage: Storage, run: Run) -> Run:
    """Reads a run again."""
    return (await storage.runs.get(PROJECT, run.thread_id, run.id)).run


async def get_message(storage: Storage, message: Message) -> Message:
    """Reads a message again."""
    return await storage.messages.get(PROJECT, message.thread_id, message.id)
