"""The previous release and this one, side by side on the newest schema.

The previous one is `tests.previous`: storage upon the tables that it knew. Its repositories are
today's: what differs between two releases is what their statements know of the tables.
"""

import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from storage import Storage, schema
from storage.attachments import AUTO
from storage.claims import MessageEnd, RunEnd, StepEnd
from storage.database import Database
from storage.entries import NewEntry
from storage.errors import NotFound
from storage.pages import Page, PageRequest
from storage.resources import NOTHING
from storage.segments import NewChunk
from storage.tables import RunStatus, StepStatus
from tests import previous
from tests.storage.test_schema import differences
from tests.storage.test_upgrade import migrate_to
from tests.support.storage.everything import do_everything
from tests.support.storage.rows import PROJECT, text_part

ROOT = Path(__file__).parents[2]
CORE = ("assistants", "threads", "messages", "runs", "claims", "files", "entry_claims")
"""Modules of this room that storage passes upon the previous tables, too."""

NAMED = {"metadata_": {"by": "the other"}}
RENAMED = {"name": "renamed"}
USAGE = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}


class Release:
    """Storage as one of the two has it, and what tests do to that."""

    def __init__(self, url: str, modules: dict[str, Any]) -> None:
        database = modules["storage.database"].Database(url)
        self.storage: Storage = modules["storage"].Storage(database)
        self.rows: Any = modules["tests.support.storage.rows"]
        self.everything: Any = modules["tests.support.storage.everything"]
        self.tables: dict[str, sa.Table] = {
            each.name: each for each in modules["storage.tables"].Thread.metadata.sorted_tables
        }


@pytest.fixture(params=["the previous begins", "this one begins"])
async def releases(
    request: pytest.FixtureRequest, database_url: str
) -> AsyncIterator[tuple[Release, Release]]:
    """Both on one database: the one that begins, and the one that goes on."""
    both = [Release(database_url, each) for each in (previous.load(), dict(sys.modules))]
    one, other = both if request.param.startswith("the previous") else both[::-1]
    yield one, other
    for each in both:
        await each.storage.database.close()


def alternating(*releases: Release) -> Storage:
    """Returns repositories of which each call goes to another release than the call before."""
    turns = itertools.cycle(release.storage for release in releases)

    def method(repository: str, name: str) -> Any:
        return lambda *given, **named: getattr(getattr(next(turns), repository), name)(
            *given, **named
        )

    mixed = SimpleNamespace(database=releases[0].storage.database)
    for repository, methods in vars(releases[0].storage).items():
        if repository != "database":
            public = [name for name in dir(methods) if not name.startswith("_")]
            made = {name: method(repository, name) for name in public}
            setattr(mixed, repository, SimpleNamespace(**made))
    return cast(Storage, mixed)


def test_the_previous_release_is_the_oldest_that_may_run() -> None:
    assert previous.VERSION == schema.OLDEST, (
        f"storage/schema.py lets code from version {schema.OLDEST} on run, but tests/previous has "
        f"the tables of version {previous.VERSION}: its docstring says how they are replaced"
    )


async def test_its_tables_are_those_of_its_version(empty_database_url: str) -> None:
    declared = previous.load()["storage.tables"].Thread.metadata
    database = Database(empty_database_url)
    with database.connect() as connection:
        migrate_to(connection, f"{previous.VERSION:04}")
        assert differences(connection, declared) == []
    await database.close()


def test_the_core_cases_upon_its_tables() -> None:
    """On both databases, whose schema is the newest."""
    modules = [f"tests/storage/test_{name}.py" for name in CORE]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.previous.plugin", "-n", "0", "-q", *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


async def test_everything_alternately(releases: tuple[Release, Release]) -> None:
    await do_everything(alternating(*releases), sessions=False)


async def test_rows_of_every_table(releases: tuple[Release, Release]) -> None:
    """What one has written, the other reads alike, updates and deletes through its own tables."""
    one, other = releases
    await one.everything.do_everything(one.storage, sessions=False)
    # What it deletes again.
    store = await one.storage.vector_stores.create(PROJECT, {"metadata_": {}}, [])
    await one.storage.vector_store_batches.create(PROJECT, store.id, [])
    segment = await one.storage.segments.begin(PROJECT, store.id, "an embedder")
    chunk = [NewChunk(0, 2, "some words")]
    await one.storage.segments.add(PROJECT, segment, 0, chunk, one.everything.add_vectors)
    with Database(str(one.storage.database.url)).connect() as connection, connection.begin():
        for name, written in reversed(one.tables.items()):
            table = other.tables[name]
            both = [column.name for column in written.c if column.name in table.c]
            found = [
                connection.execute(sa.select(*(each.c[key] for key in both))).all()
                for each in (written, table)
            ]
            assert sorted(map(repr, found[0])) == sorted(map(repr, found[1]))
            assert found[0], f"there are no rows of {name}"
            same = sa.update(table).values({key: table.c[key] for key in both})
            assert connection.execute(same).rowcount == len(found[0])
        for table in reversed(other.tables.values()):
            connection.execute(sa.delete(table))
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def test_a_run_that_both_execute(releases: tuple[Release, Release]) -> None:
    one, other = releases
    begun, goes_on = one.storage, other.storage
    thread = await one.rows.make_thread(begun, "Hi")
    run = await one.rows.make_run(begun, thread)
    claim = await one.rows.claimed(begun, run)
    await one.rows.start_message(begun, claim)
    await begun.claims.release(claim)

    # The other takes it up, and asks for a tool's outputs; the first gets them.
    claim = await other.rows.claimed(goes_on, run)
    assert claim.attempt > run.attempt + 1
    step = await other.rows.start_tool_calls(goes_on, claim)
    details = {"type": "tool_calls", "tool_calls": [other.rows.call("call_1")]}
    asked = StepEnd(step.id, StepStatus.in_progress, {}, step_details=details, replay={})
    await goes_on.claims.save(claim, steps=[asked], run=RunEnd(RunStatus.requires_action))
    await begun.runs.submit_tool_outputs(PROJECT, thread.id, run.id, [("call_1", "3")])
    waiting = await goes_on.runs.create(PROJECT, thread.id, other.rows.new_run(), [], queue=True)

    # The first ends it, and so releases the run that the other has queued behind it.
    claim = await one.rows.claimed(begun, run)
    assert await begun.claims.held([claim]) == await goes_on.claims.held([claim])
    step, message = await one.rows.start_message(begun, claim)
    saved = await begun.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part("Hello")]),
        steps=[StepEnd(step.id, StepStatus.completed, USAGE)],
        run=RunEnd(RunStatus.completed),
    )
    assert saved.released is not None and saved.released.id == waiting.run.id

    assert (await goes_on.runs.get(PROJECT, thread.id, run.id)).run.status == RunStatus.completed
    steps = (await goes_on.runs.list_steps(PROJECT, thread.id, run.id, PageRequest())).data
    assert [each.status for each in steps] == [StepStatus.completed] * 2
    texts = (await goes_on.messages.list(PROJECT, thread.id, PageRequest())).data
    assert [each.content for each in texts] == [[text_part("Hello")], [text_part("Hi")]]
    cancelled = await goes_on.runs.cancel(PROJECT, thread.id, waiting.run.id)
    assert cancelled.run.status == RunStatus.cancelling
    listed = (await begun.runs.list(PROJECT, thread.id, PageRequest())).data
    assert [each.id for each in listed] == [waiting.run.id, run.id]


async def test_objects_that_both_change(releases: tuple[Release, Release]) -> None:
    """One creates and reads; the other reads, lists, modifies and deletes."""
    one, other = releases
    begun, goes_on = one.storage, other.storage
    assistant = await begun.assistants.create(PROJECT, one.rows.assistant_values())
    thread = await begun.threads.create(PROJECT, {}, NOTHING, [one.rows.user("Hi")])
    [message] = (await goes_on.messages.list(PROJECT, thread.id, PageRequest())).data

    page = PageRequest()
    listed = (
        (assistant, await goes_on.assistants.list(PROJECT, page)),
        (thread, await goes_on.threads.list(PROJECT, page, {})),
        (message, await goes_on.messages.list(PROJECT, thread.id, page)),
    )
    for made, found in listed:
        assert [each.id for each in cast(Page[Any], found).data] == [made.id]
    changed: list[tuple[tuple[str, ...], Any, Any, dict[str, Any]]] = [
        ((assistant.id,), begun.assistants, goes_on.assistants, RENAMED),
        ((thread.id,), begun.threads, goes_on.threads, NAMED),
        ((thread.id, message.id), begun.messages, goes_on.messages, NAMED),
    ]
    for id, of_one, of_other, change in changed:
        await of_other.modify(PROJECT, *id, change)
        read = await of_one.get(PROJECT, *id)
        assert {key: getattr(read, key) for key in change} == change
    for id, of_one, of_other, _ in reversed(changed):
        await of_other.delete(PROJECT, *id)
        with pytest.raises(NotFound):
            await of_one.get(PROJECT, *id)


async def test_a_vector_store_that_both_fill(releases: tuple[Release, Release]) -> None:
    one, other = releases
    begun, goes_on = one.storage, other.storage
    files = [await each.rows.make_file(each.storage) for each in releases]
    stores = begun.vector_stores, goes_on.vector_stores
    store = await stores[0].create(PROJECT, {"metadata_": {}}, [NewEntry(files[1], AUTO, {})])
    await goes_on.vector_store_files.create(PROJECT, store.id, NewEntry(files[0], AUTO, {}))
    for storage in (goes_on, begun):
        [claim] = await storage.entry_claims.claim(1)
        segment = await storage.segments.begin(PROJECT, store.id, "an embedder")
        chunk = [NewChunk(0, 2, "some words")]
        await storage.segments.add(PROJECT, segment, 0, chunk, lambda tx, first: 0)
        assert await storage.entry_claims.complete(claim, segment)
    for of_one, of_other in (stores, stores[::-1]):
        await of_one.modify(PROJECT, store.id, {"name": str(of_one)})
        read = await of_other.get(PROJECT, store.id)
        assert (read.name, read.in_progress, read.completed) == (str(of_one), 0, 2)
        assert [each.id for each in (await of_other.list(PROJECT, PageRequest())).data] == [
            store.id
        ]
    entries = (await begun.vector_store_files.list(PROJECT, store.id, PageRequest())).data
    assert {each.row.file_id for each in entries} == {*files}
    await goes_on.vector_store_files.delete(PROJECT, store.id, files[0])
    assert (await begun.vector_stores.get(PROJECT, store.id)).completed == 1
    await goes_on.vector_stores.delete(PROJECT, store.id)
    with pytest.raises(NotFound):
        await begun.vector_stores.get(PROJECT, store.id)
