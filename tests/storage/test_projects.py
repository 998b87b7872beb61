"""Whatever a project asks for, it neither sees nor changes what is another's."""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from storage import Storage, rows, tables
from storage.claims import RunEnd, StepEnd
from storage.database import Database
from storage.errors import InvalidCursor, NotFound
from storage.pages import PageRequest
from storage.repository import Repository
from storage.rows import table
from storage.statements import PROJECT as PROJECT_ID
from storage.statements import Statement
from storage.tables import Assistant, Message, Run, RunStatus, RunStep, StepStatus, Thread
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

TABLES = (Assistant, Thread, Message, Run, RunStep)

OF_ALL = {"runs.statuses"}
"""What the server asks for itself, of all projects."""

CREATES = {"assistants.create", "threads.create", "runs.create_with_thread"}
"""What names nothing that there is."""

LISTS = {"assistants.list", "threads.list"}
"""What lists a project's own."""


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


async def one_of_each(storage: Storage, project: str) -> Ids:
    """Inserts them. The run awaits the outputs of its step's calls."""
    assistant = await storage.assistants.create(project, assistant_values())
    thread = await storage.threads.create(project, {"a": "b"}, {}, [user("Hi")])
    (message,) = (await storage.messages.list(project, thread.id, PageRequest())).data
    run = (
        await storage.runs.create(project, thread.id, new_run(assistant_id=assistant.id), [])
    ).run
    claim = await claimed(storage, run)
    step = await start_tool_calls(storage, claim)
    details = {"type": "tool_calls", "tool_calls": [call("call_1")]}
    ends = [StepEnd(step.id, StepStatus.in_progress, step_details=details)]
    await storage.claims.save(claim, steps=ends, run=RunEnd(RunStatus.requires_action))
    return Ids(assistant.id, thread.id, message.id, run.id, step.id)


def calls(storage: Storage, project: str, of: Ids, assistant: str) -> dict[str, Callable[[], Any]]:
    """Returns every call of a project that names something, by the name of its method.

    `assistant` is one of the project's own, for new runs.
    """
    new = new_run(assistant_id=assistant)
    page = PageRequest()
    changes = {"metadata_": {"stolen": "1"}}
    assistants, threads = storage.assistants, storage.threads
    messages, runs = storage.messages, storage.runs
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
        "runs.get_step": lambda: runs.get_step(project, of.thread, of.run, of.step),
    }


NAMES = sorted(calls(Storage(Database("sqlite:///unopened.db")), "", Ids("", "", "", "", ""), ""))


NO_CALLERS = ("claims", "stale_runs", "keys", "counts")
"""Repositories that callers have no way to, and that work on all projects."""


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
        if isinstance(repository, Repository) and name not in NO_CALLERS
        for method, function in vars(type(repository)).items()
        if inspect.iscoroutinefunction(function)
    }
    assert methods == {*NAMES} | OF_ALL | CREATES | LISTS


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
    mixed = Ids(own.assistant, own.thread, theirs.message, theirs.run, theirs.step)
    for name, asked in calls(storage, OTHER, theirs, own.assistant).items():
        await refused(storage, name, asked)
    for name, asked in calls(storage, OTHER, mixed, own.assistant).items():
        if name.startswith(("messages.", "runs.")) and name not in NAME_ONLY_THE_THREAD:
            await refused(storage, name, asked)
    in_own_run = Ids(own.assistant, own.thread, theirs.message, own.run, theirs.step)
    for name in ("threads.copy", "runs.get_step"):
        await refused(storage, name, calls(storage, OTHER, in_own_run, own.assistant)[name])


async def test_what_is_ones_own(storage: Storage) -> None:
    """The same calls find it."""
    for name in NAMES:
        own = await one_of_each(storage, PROJECT)
        await calls(storage, PROJECT, own, own.assistant)[name]()


def test_what_returns_no_rows_of_a_class_names_the_project() -> None:
    """Rows are compared with the project; of what has none, each exception is known."""
    found = {
        name
        for name, statement in declared().items()
        if name.partition(".")[0] in ("assistants", "threads", "messages", "runs")
        and statement._row is None
        and PROJECT_ID not in statement.parameters()
    }
    assert found == IN_A_PARENT | {"runs.STATUSES"}


async def test_what_a_statement_leaves_out_is_left_out(storage: Storage) -> None:
    """A transaction of a project gives no row of another's, and changes none, whatever is asked."""
    theirs = await one_of_each(storage, PROJECT)

    ids = (theirs.assistant, theirs.thread, theirs.message, theirs.run, theirs.step)
    for row, id in zip(TABLES, ids, strict=True):
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
    ):
        assert [each.id for each in found.data] == [id]


async def test_cursors(storage: Storage) -> None:
    """Those of ids that hold no position, which must be looked up."""
    theirs = await one_of_each(storage, PROJECT)
    thread = await storage.threads.create(PROJECT, {}, {}, [])
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
