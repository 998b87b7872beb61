"""Pages, for any history of a list and any request: against a sorted list of what should be there.

Objects come in two kinds: made here, with the position in the id, and imported from elsewhere, with
an id like `msg_abc123` and any position.
"""

import asyncio
import bisect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, delete, update
from ulid import ULID

from storage import Storage, ids
from storage.database import Database
from storage.errors import InvalidCursor
from storage.pages import Page, PageRequest
from storage.resources import NOTHING
from storage.tables import Assistant, Message, Run, RunStep, Thread
from tests.support.storage.rows import (
    assistant_values,
    claimed,
    execute,
    get_run,
    make_run,
    make_thread,
    set_run,
    start_tool_calls,
    user,
)

Order = Literal["asc", "desc"]
Fetch = Callable[[PageRequest], Awaitable[Page[Any]]]
Make = Callable[[], Awaitable[Any]]

PROJECT = "proj_1"


@dataclass(frozen=True)
class Listed:
    """A list with a parent of its own: how to add to it, and how to read it."""

    table: Any
    prefix: str
    make: Make
    fetch: Fetch


async def _assistants(storage: Storage) -> Listed:
    project = ids.new_id("proj")
    return Listed(
        Assistant,
        ids.ASSISTANT,
        lambda: storage.assistants.create(project, assistant_values()),
        lambda page: storage.assistants.list(project, page),
    )


async def _threads(storage: Storage) -> Listed:
    project = ids.new_id("proj")
    return Listed(
        Thread,
        ids.THREAD,
        lambda: storage.threads.create(project, {}, NOTHING, []),
        lambda page: storage.threads.list(project, page, {}),
    )


async def _messages(storage: Storage) -> Listed:
    thread = await make_thread(storage)
    return Listed(
        Message,
        ids.MESSAGE,
        lambda: storage.messages.create(PROJECT, thread.id, user("Hi")),
        lambda page: storage.messages.list(PROJECT, thread.id, page),
    )


async def _runs(storage: Storage) -> Listed:
    thread = await make_thread(storage)

    async def make() -> Run:
        run = await make_run(storage, thread)
        await set_run(storage, run, status="completed")
        return run

    return Listed(Run, ids.RUN, make, lambda page: storage.runs.list(PROJECT, thread.id, page))


async def _steps(storage: Storage) -> Listed:
    thread = await make_thread(storage)
    run = await get_run(storage, await make_run(storage, thread))
    claim = await claimed(storage, run)
    return Listed(
        RunStep,
        ids.STEP,
        lambda: start_tool_calls(storage, claim),
        lambda page: storage.runs.list_steps(PROJECT, thread.id, run.id, page),
    )


class History:
    """A list in the database, and beside it what it should be."""

    def __init__(self, storage: Storage, listed: Listed) -> None:
        self._storage = storage
        self._listed = listed
        self.rows: list[tuple[str, str]] = []
        """Position and id of what is there, ascending."""
        self.gone: list[tuple[str, str]] = []
        self._imported = 0

    async def make(self) -> None:
        made = await self._listed.make()
        assert made.id == ids.make_id(self._listed.prefix, made.position)
        bisect.insort(self.rows, (made.position, made.id))

    async def bring(self, position: str) -> None:
        """Imports an object to a position, unless it is taken."""
        if position in [taken for taken, _ in self.rows]:
            return
        self._imported += 1
        made = await self._listed.make()
        # Ids are unique in a table, whoever the parent is.
        id = f"{self._listed.prefix}_{made.position[-12:].lower()}{self._imported}"
        table = self._listed.table
        change = update(table).where(col(table.id) == made.id)
        await execute(self._storage, change.values(id=id, position=position))
        bisect.insort(self.rows, (position, id))

    async def drop(self, id: str) -> None:
        table = self._listed.table
        await execute(self._storage, delete(table).where(col(table.id) == id))
        [at] = [at for at, (_, there) in enumerate(self.rows) if there == id]
        self.gone.append(self.rows.pop(at))

    def listed(self, order: Order) -> list[str]:
        """The ids in the order."""
        found = [id for _, id in self.rows]
        return found if order == "asc" else found[::-1]

    def cursors(self) -> list[tuple[str, str]]:
        """Position and id of everything that is a cursor, ascending."""
        # An imported id that is gone has no position.
        return sorted(self.rows + [(at, id) for at, id in self.gone if self.made(id)])

    def made(self, id: str) -> bool:
        return ids.position_of(self._listed.prefix, id) is not None

    async def page(self, request: PageRequest) -> tuple[list[str], bool]:
        page = await self._listed.fetch(request)
        return [row.id for row in page.data], page.has_more

    def expected(self, request: PageRequest) -> tuple[list[str], bool]:
        """What `page` should return: by slicing a list."""
        positions = {id: at for at, id in self.cursors()}
        rows = self.rows if request.order == "asc" else self.rows[::-1]
        if request.after is not None:
            at = positions[request.after]
            rows = [row for row in rows if (row[0] > at if request.order == "asc" else row[0] < at)]
        if request.before is not None:
            at = positions[request.before]
            rows = [row for row in rows if (row[0] < at if request.order == "asc" else row[0] > at)]
        backwards = request.before is not None and request.after is None
        page = rows[-request.limit :] if backwards else rows[: request.limit]
        return [id for _, id in page], len(rows) > len(page)


KINDS: dict[str, Callable[[Storage], Awaitable[Listed]]] = {
    "assistants": _assistants,
    "threads": _threads,
    "messages": _messages,
    "runs": _runs,
    "steps": _steps,
}

POSITIONS = st.integers(0, 2**128 - 1).map(lambda number: str(ULID.from_int(number)))
ACTIONS = st.lists(
    st.one_of(
        st.just("make"),
        st.tuples(st.just("bring"), POSITIONS),
        st.tuples(st.just("drop"), st.integers(0, 99)),
    ),
    min_size=2,
    max_size=10,
)
LIMITS = st.integers(1, 4) | st.just(100)
ORDERS: st.SearchStrategy[Order] = st.sampled_from(["asc", "desc"])

PROPERTIES = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    # Each example makes a list of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class World:
    """The repositories in an event loop that lasts for all examples of a test."""

    runner: asyncio.Runner
    storage: Storage

    async def history(self, kind: str, actions: list[Any]) -> History:
        """Makes a list of this kind, with this history."""
        history = History(self.storage, await KINDS[kind](self.storage))
        for action in actions:
            match action:
                case "make":
                    await history.make()
                case ("bring", position):
                    await history.bring(position)
                case ("drop", number) if history.rows:
                    await history.drop(history.rows[number % len(history.rows)][1])
        return history


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with asyncio.Runner() as runner:

        async def open_database() -> Database:
            return Database(database_url)

        database = runner.run(open_database())
        yield World(runner, Storage(database))
        runner.run(database.close())


@pytest.mark.parametrize("kind", KINDS)
@PROPERTIES
@given(actions=ACTIONS, limit=LIMITS, order=ORDERS)
def test_walks_meet_every_object_once_and_in_order(
    world: World, kind: str, actions: list[Any], limit: int, order: Order
) -> None:
    async def example() -> None:
        history = await world.history(kind, actions)
        listed = history.listed(order)
        assert await _walk_forth(history, limit, order) == listed
        # There is no cursor behind the last object, so walking back begins ahead of it.
        assert await _walk_back(history, limit, order) == listed[:-1]

    world.runner.run(example())


@pytest.mark.parametrize("kind", KINDS)
@PROPERTIES
@given(actions=ACTIONS, limit=LIMITS, order=ORDERS)
def test_a_walk_goes_on_though_what_it_has_met_is_deleted(
    world: World, kind: str, actions: list[Any], limit: int, order: Order
) -> None:
    async def example() -> None:
        history = await world.history(kind, actions)
        listed = history.listed(order)
        assert await _walk_forth(history, limit, order, delete=True) == listed
        left = [id for id in listed if not history.made(id)]
        assert history.listed(order) == left
        if gone := [cursor for cursor in history.cursors() if cursor not in history.rows]:
            # A walk can also begin at what is gone, and no walk meets it.
            for cursor in (gone[0][1], gone[-1][1]):
                for request in (
                    PageRequest(limit, order, after=cursor),
                    PageRequest(limit, order, before=cursor),
                ):
                    assert await history.page(request) == history.expected(request)

    world.runner.run(example())


@pytest.mark.parametrize("kind", KINDS)
@PROPERTIES
@given(actions=ACTIONS, limit=LIMITS, order=ORDERS, data=st.data())
def test_any_cursors_give_what_lies_between_them(
    world: World, kind: str, actions: list[Any], limit: int, order: Order, data: st.DataObject
) -> None:
    history = world.runner.run(world.history(kind, actions))
    cursors = st.none()
    if known := [id for _, id in history.cursors()]:
        cursors |= st.sampled_from(known)
    for _ in range(6):
        request = PageRequest(limit, order, data.draw(cursors), data.draw(cursors))
        assert world.runner.run(history.page(request)) == history.expected(request), request


@pytest.mark.parametrize("kind", KINDS)
def test_an_imported_object_that_is_deleted_is_no_cursor_any_more(world: World, kind: str) -> None:
    async def example() -> None:
        history = await world.history(kind, ["make", ("bring", "0" * 26), ("drop", 0), "make"])
        [(_, id)] = history.gone
        assert not history.made(id)
        with pytest.raises(InvalidCursor):
            await history.page(PageRequest(after=id))

    world.runner.run(example())


async def _walk_forth(
    history: History, limit: int, order: Order, *, delete: bool = False
) -> list[str]:
    met: list[str] = []
    cursor = None
    while True:
        page, more = await history.page(PageRequest(limit, order, after=cursor))
        assert len(page) <= limit
        met += page
        if not more:
            if delete:
                await _drop_made(history, page)
            return met
        cursor = page[-1]
        if delete:
            await _drop_made(history, page)


async def _walk_back(history: History, limit: int, order: Order) -> list[str]:
    listed = history.listed(order)
    if not listed:
        return []
    met: list[str] = []
    more, cursor = True, listed[-1]
    while more:
        page, more = await history.page(PageRequest(limit, order, before=cursor))
        assert len(page) <= limit and (page or not more)
        met = page + met
        cursor = page[0] if page else cursor
    return met


async def _drop_made(history: History, page: list[str]) -> None:
    for id in filter(history.made, page):
        await history.drop(id)
