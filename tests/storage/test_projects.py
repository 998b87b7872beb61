"""Whatever a project asks for, it neither sees nor changes what is another's."""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from storage import Storage, ids, rows, tables
from storage.attachments import AUTO
from storage.claims import RunEnd, StepEnd
from storage.database import Database
from storage.entries import NewEntry
from storage.errors import InvalidCursor, NotCompleted, NotFound
from storage.files import NewBlob
from storage.pages import PageRequest
from storage.repository import Repository
from storage.resources import NOTHING
from storage.rows import table
from storage.statements import PROJECT as PROJECT_ID
from storage.statements import Statement
from storage.tables import (
    Assistant,
    Blob,
    File,
    Message,
    Run,
    RunStatus,
    RunStep,
    StepStatus,
    Thread,
    Upload,
)
from storage.transaction import Transaction
from tests.support.storage.declared import declared
from tests.support.storage.rows import (
    OTHER,
    PROJECT,
    assistant_values,
    call,
    claimed,
    execute,
    fetch,
    new_run,
    start_tool_calls,
    user,
)

TABLES = (Assistant, Thread, Message, Run, RunStep, File, Upload, Blob)

NOT_FOR_CALLERS = ("claims", "entry_claims", "stale_runs", "keys", "counts", "segments", "sessions")
"""Repositories whose methods name nothing that a caller has named."""

CALLED = (
    *("assistants", "threads", "messages", "runs", "files", "uploads"),
    *("vector_stores", "vector_store_files", "vector_store_batches"),
)
"""Modules of storage whose statements callers' requests fill."""

OF_ALL = {
    *("runs.statuses", "threads.existing", "vector_stores.of_run", "vector_stores.due"),
    *("files.expired", "files.expire", "files.unknown_blobs"),
    *("uploads.overdue", "uploads.expire"),
}
"""What the server asks for itself, of all projects."""

CREATES = {
    *("assistants.create", "threads.create", "runs.create_with_thread"),
    *("files.create", "uploads.create"),
}
"""What names nothing that there is."""

PASSES_OVER = {"vector_store_files.names", "vector_stores.use"}
"""What does nothing for ids of which there is no object."""

LISTS = {"assistants.list", "threads.list", "files.list", "vector_stores.list"}
"""What lists a project's own."""


UNASKED = {
    *("runs.STATUSES", "threads.EXISTING"),
    *("files.EXPIRED", "files.KNOWN_BLOBS", "uploads.OVERDUE"),
}
"""Statements that the server executes by itself, for all projects."""

IN_A_PARENT = {
    "threads.DELETE",
    "threads.ACTIVE_RUNS",
    "threads.COPIED",
    "threads.COPIED_UP_TO",
    "threads.POSITION",
    "threads.COPY",
    "messages.DELETE",
    "messages.LIST.position",
    "messages.LIST_OF_RUN.position",
    "runs.LIST.position",
    "runs.LIST_STEPS.position",
}
"""Statements that name a thread, or a run, which their transaction has found, or locked, before."""

NAME_ONLY_THE_THREAD = {"messages.create", "messages.list", "runs.create", "runs.list"}


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of one of each, each in the one before."""

    assistant: str
    thread: str
    message: str
    run: str
    step: str
    file: str = ""
    upload: str = ""
    part: str = ""
    store: str = ""
    batch: str = ""


async def one_of_each(storage: Storage, project: str) -> Ids:
    """Inserts them. The run awaits the outputs of its step's calls."""
    assistant = await storage.assistants.create(project, assistant_values())
    thread = await storage.threads.create(project, {"a": "b"}, NOTHING, [user("Hi")])
    (message,) = (await storage.messages.list(project, thread.id, PageRequest())).data
    run = (
        await storage.runs.create(project, thread.id, new_run(assistant_id=assistant.id), [])
    ).run
    claim = await claimed(storage, run)
    step = await start_tool_calls(storage, claim)
    details = {"type": "tool_calls", "tool_calls": [call("call_1")]}
    ends = [StepEnd(step.id, StepStatus.in_progress, step_details=details)]
    await storage.claims.save(claim, steps=ends, run=RunEnd(RunStatus.requires_action))
    values: dict[str, Any] = {"filename": "a", "purpose": "vision", "expires_after": None}
    file = await storage.files.create(project, values, NewBlob(ids.new_id(ids.BLOB), 1))
    values |= {"bytes": 1, "mime_type": "a/b"}
    upload = await storage.uploads.create(project, values)
    part = await storage.uploads.add_part(project, upload.id, NewBlob(ids.new_id(ids.PART), 1))
    store = await storage.vector_stores.create(project, {"metadata_": {}}, [])
    new = [NewEntry(file.id, AUTO, {})]
    batch = await storage.vector_store_batches.create(project, store.id, new)
    return Ids(
        *(assistant.id, thread.id, message.id, run.id, step.id),
        *(file.id, upload.id, part.id, store.id, batch.id),
    )


def calls(storage: Storage, project: str, of: Ids, assistant: str) -> dict[str, Callable[[], Any]]:
    """Returns every call of a project that names something, by the name of its method.

    `assistant` is one of the project's own, for new runs.
    """
    new = new_run(assistant_id=assistant)
    page = PageRequest()
    changes = {"metadata_": {"stolen": "1"}}
    assistants, threads = storage.assistants, storage.threads
    messages, runs = storage.messages, storage.runs
    stores, entries = storage.vector_stores, storage.vector_store_files
    batches, file = storage.vector_store_batches, NewEntry(of.file, AUTO, {})
    files, uploads = storage.files, storage.uploads
    blob = NewBlob("part_new", 1)
    return {
        "assistants.get": lambda: assistants.get(project, of.assistant),
        "assistants.modify": lambda: assistants.modify(project, of.assistant, changes),
        "assistants.delete": lambda: assistants.delete(project, of.assistant),
        "threads.get": lambda: threads.get(project, of.thread),
        "threads.copy": lambda: threads.copy(project, of.thread, of.message),
        "threads.modify": lambda: threads.modify(project, of.thread, changes),
        "threads.delete": lambda: threads.delete(project, of.thread),
        "messages.create": lambda: messages.create(project, of.thread, user("Hi"), queue=True),
        "messages.get": lambda: messages.get(project, of.thread, of.message),
        "messages.list": lambda: messages.list(project, of.thread, page),
        "messages.modify": lambda: messages.modify(project, of.thread, of.message, changes),
        "messages.delete": lambda: messages.delete(project, of.thread, of.message),
        "runs.create": lambda: runs.create(project, of.thread, new, [user("Hi")], queue=True),
        "runs.get": lambda: runs.get(project, of.thread, of.run),
        "runs.list": lambda: runs.list(project, of.thread, page),
        "runs.modify": lambda: runs.modify(project, of.thread, of.run, changes),
        "runs.cancel": lambda: runs.cancel(project, of.thread, of.run),
        "runs.submit_tool_outputs": lambda: runs.submit_tool_outputs(
            project, of.thread, of.run, [("call_1", "stolen")]
        ),
        "runs.list_steps": lambda: runs.list_steps(project, of.thread, of.run, page),
        "vector_stores.create": lambda: stores.create(project, {"metadata_": {}}, [file]),
        "vector_stores.get": lambda: stores.get(project, of.store),
        "vector_stores.open": lambda: stores.open(project, of.store),
        "vector_stores.modify": lambda: stores.modify(project, of.store, changes),
        "vector_stores.delete": lambda: stores.delete(project, of.store),
        "vector_stores.expire": lambda: stores.expire(project, of.store),
        "vector_store_files.create": lambda: entries.create(project, of.store, file),
        "vector_store_files.get": lambda: entries.get(project, of.store, of.file),
        "vector_store_files.list": lambda: entries.list(project, of.store, page),
        "vector_store_files.modify": lambda: entries.modify(
            project, of.store, of.file, {"attributes": {"stolen": 1}}
        ),
        "vector_store_files.delete": lambda: entries.delete(project, of.store, of.file),
        "vector_store_files.text": lambda: entries.text(project, of.store, of.file),
        "vector_store_batches.create": lambda: batches.create(project, of.store, [file]),
        "vector_store_batches.get": lambda: batches.get(project, of.store, of.batch),
        "vector_store_batches.cancel": lambda: batches.cancel(project, of.store, of.batch),
        "vector_store_batches.files": lambda: batches.files(project, of.store, of.batch, page),
        "files.get": lambda: files.get(project, of.file),
        "files.content": lambda: files.content(project, of.file),
        "files.delete": lambda: files.delete(project, of.file),
        "uploads.check_pending": lambda: uploads.check_pending(project, of.upload),
        "uploads.add_part": lambda: uploads.add_part(project, of.upload, blob),
        "uploads.parts": lambda: uploads.parts(project, of.upload, [of.part]),
        "uploads.complete": lambda: uploads.complete(project, of.upload, [of.part]),
        "uploads.cancel": lambda: uploads.cancel(project, of.upload),
        "runs.get_step": lambda: runs.get_step(project, of.thread, of.run, of.step),
    }


NAMES = sorted(calls(Storage(Database("sqlite:///unopened.db")), "", Ids(*[""] * 10), ""))


async def everything(storage: Storage) -> list[list[Any]]:
    """Returns all rows of all tables."""
    found = []
    for model in TABLES:
        key = table(model).c.id
        found.append(await fetch(storage, sa.select(table(model)).order_by(key)))
    return found


def test_every_method_is_here(storage: Storage) -> None:
    methods = {
        f"{name}.{method}"
        for name, repository in vars(storage).items()
        if isinstance(repository, Repository) and name not in NOT_FOR_CALLERS
        for method, function in vars(type(repository)).items()
        if inspect.iscoroutinefunction(function)
    }
    assert methods == {*NAMES} | OF_ALL | CREATES | LISTS | PASSES_OVER


async def refused(
    storage: Storage, name: str, asked: Callable[[], Coroutine[Any, Any, Any]]
) -> None:
    """Asserts that a call raises NotFound and changes nothing."""
    before = await everything(storage)
    with pytest.raises(NotFound):
        pytest.fail(f"{name} has found {await asked()}")
    assert await everything(storage) == before, name


async def test_what_is_anothers(storage: Storage) -> None:
    theirs, own = await one_of_each(storage, PROJECT), await one_of_each(storage, OTHER)
    # Theirs, by way of a thread of ours.
    mixed = replace(theirs, assistant=own.assistant, thread=own.thread)
    for name, asked in calls(storage, OTHER, theirs, own.assistant).items():
        await refused(storage, name, asked)
    for name, asked in calls(storage, OTHER, mixed, own.assistant).items():
        if name.startswith(("messages.", "runs.")) and name not in NAME_ONLY_THE_THREAD:
            await refused(storage, name, asked)
    # Theirs, by way of a vector store of ours.
    in_own_store = replace(theirs, store=own.store)
    for name, asked in calls(storage, OTHER, in_own_store, own.assistant).items():
        if name.startswith("vector_store_") and name != "vector_store_files.list":
            await refused(storage, name, asked)
    # And the other way round.
    in_theirs = replace(own, store=theirs.store)
    for name, asked in calls(storage, OTHER, in_theirs, own.assistant).items():
        if name.startswith("vector_store_"):
            await refused(storage, name, asked)
    in_own_run = replace(mixed, run=own.run)
    for name in ("threads.copy", "runs.get_step"):
        await refused(storage, name, calls(storage, OTHER, in_own_run, own.assistant)[name])


async def test_what_is_ones_own(storage: Storage) -> None:
    """The same calls find it."""
    for name in NAMES:
        own = await one_of_each(storage, PROJECT)
        asked = calls(storage, PROJECT, own, own.assistant)[name]
        if name == "vector_store_files.text":
            with pytest.raises(NotCompleted):
                await asked()
        else:
            await asked()


def test_what_returns_no_rows_of_a_class_names_the_project() -> None:
    """Rows are compared with the project; of what has none, each exception is known."""
    found = {
        name
        for name, statement in declared().items()
        if name.partition(".")[0]
        in ("assistants", "threads", "messages", "runs", "files", "uploads")
        and statement._row is None
        and PROJECT_ID not in statement.parameters()
    }
    assert found == IN_A_PARENT | UNASKED


async def test_what_a_statement_leaves_out_is_left_out(storage: Storage) -> None:
    """A transaction of a project gives no row of another's, and changes none, whatever is asked."""
    theirs = await one_of_each(storage, PROJECT)

    of_rows = (theirs.assistant, theirs.thread, theirs.message, theirs.run, theirs.step)
    of_files = (theirs.file, theirs.upload, theirs.part)
    for row, id in zip(TABLES, (*of_rows, *of_files), strict=True):
        named: Any = getattr(rows, row.__name__)
        before = await everything(storage)
        assert await storage.database.write(look_up(named, id), OTHER) == (None, None, [])
        assert await everything(storage) == before
        changed, one, several = await storage.database.write(look_up(named, id), PROJECT)
        assert (one.created_at, one, several) == (1, changed, [changed])


def look_up(row: Any, id: str) -> Callable[[Transaction], Any]:
    """Asks for a row, and changes it, by a statement that forgets the project."""
    columns = table(getattr(tables, row.__name__)).c
    of_any = Statement(sa.select(columns.id.table).where(columns.id == sa.literal(id)), row)
    return lambda tx: (tx.change(row, id, created_at=1), tx.one(of_any), tx.all(of_any))


async def test_lists(storage: Storage) -> None:
    await one_of_each(storage, PROJECT)
    own, page = await one_of_each(storage, OTHER), PageRequest()
    for found, id in (
        (await storage.assistants.list(OTHER, page), own.assistant),
        (await storage.threads.list(OTHER, page, {}), own.thread),
        (await storage.threads.list(OTHER, page, {"a": "b"}), own.thread),
        (await storage.vector_stores.list(OTHER, page), own.store),
    ):
        assert [each.id for each in found.data] == [id]


async def test_cursors(storage: Storage) -> None:
    """Those of ids that hold no position, which must be looked up."""
    theirs = await one_of_each(storage, PROJECT)
    thread = await storage.threads.create(PROJECT, {}, NOTHING, [])
    for model, id in ((Assistant, theirs.assistant), (Thread, thread.id)):
        column = table(model).c.id
        await execute(storage, sa.update(model).where(column == id).values(id="imported"))
    for page in (PageRequest(after="imported"), PageRequest(before="imported")):
        assert (await storage.assistants.list(PROJECT, page)).data == []
        for listing in (
            storage.assistants.list(OTHER, page),
            storage.threads.list(OTHER, page, {}),
            storage.threads.list(OTHER, page, {"a": "b"}),
        ):
            with pytest.raises(InvalidCursor):
                await listing
