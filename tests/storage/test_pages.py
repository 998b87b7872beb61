"""Pages and cursors, on messages: every list goes through the same function."""

from typing import Literal

import pytest
from sqlmodel import col, update

from storage import Storage
from storage.errors import InvalidCursor, NotFound
from storage.pages import PageRequest
from storage.tables import Assistant, Message, Thread
from tests.support.storage.rows import (
    OTHER,
    PROJECT,
    assistant_values,
    claimed,
    execute,
    get_run,
    make_run,
    make_thread,
    set_run,
    start_tool_calls,
)


async def _thread(storage: Storage, count: int) -> tuple[Thread, list[str]]:
    thread = await make_thread(storage, *map(str, range(count)))
    page = await storage.messages.list(PROJECT, thread.id, PageRequest(limit=100, order="asc"))
    return thread, [each.id for each in page.data]


async def _page(storage: Storage, thread: Thread, request: PageRequest) -> tuple[list[str], bool]:
    page = await storage.messages.list(PROJECT, thread.id, request)
    return [each.id for each in page.data], page.has_more


async def test_newest_first_unless_asked_otherwise(storage: Storage) -> None:
    thread, made = await _thread(storage, 3)
    assert await _page(storage, thread, PageRequest()) == (made[::-1], False)
    assert await _page(storage, thread, PageRequest(order="asc")) == (made, False)
    assert await _page(storage, thread, PageRequest(limit=2)) == (made[:0:-1], True)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_after_walks_the_list_and_before_walks_back(
    storage: Storage, order: Literal["asc", "desc"]
) -> None:
    thread, made = await _thread(storage, 5)
    listed = made if order == "asc" else made[::-1]
    forth = [
        await _page(storage, thread, PageRequest(2, order, after=cursor))
        for cursor in (None, listed[1], listed[3], listed[4])
    ]
    assert forth == [(listed[:2], True), (listed[2:4], True), (listed[4:], False), ([], False)]
    back = [
        await _page(storage, thread, PageRequest(2, order, before=cursor))
        for cursor in (listed[4], listed[2], listed[1], listed[0])
    ]
    assert back == [
        (listed[2:4], True),
        (listed[:2], False),
        (listed[:1], False),
        ([], False),
    ]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_both_cursors_enclose_the_page(
    storage: Storage, order: Literal["asc", "desc"]
) -> None:
    thread, made = await _thread(storage, 5)
    listed = made if order == "asc" else made[::-1]
    request = PageRequest(2, order, after=listed[0], before=listed[4])
    assert await _page(storage, thread, request) == (listed[1:3], True)
    request = PageRequest(3, order, after=listed[0], before=listed[4])
    assert await _page(storage, thread, request) == (listed[1:4], False)


async def test_a_cursor_works_when_its_object_is_deleted(storage: Storage) -> None:
    thread, made = await _thread(storage, 3)
    await storage.messages.delete(PROJECT, thread.id, made[1])
    asked = PageRequest(order="asc", after=made[1])
    assert await _page(storage, thread, asked) == ([made[2]], False)
    asked = PageRequest(order="asc", before=made[1])
    assert await _page(storage, thread, asked) == ([made[0]], False)


async def test_an_imported_id_is_a_cursor(storage: Storage) -> None:
    thread, made = await _thread(storage, 3)
    renamed = update(Message).where(col(Message.id) == made[1]).values(id="msg_abc123")
    await execute(storage, renamed)
    asked = PageRequest(order="asc", after="msg_abc123")
    assert await _page(storage, thread, asked) == ([made[2]], False)
    other = await make_thread(storage)
    with pytest.raises(InvalidCursor):
        await storage.messages.list(PROJECT, other.id, asked)


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "msg",
        "msg_",
        "msg_abc123",
        "nonsense",
        "%",
        "thread_01HZXYQ5G0000000000000000Z",
        "msg_" + "U" * 26,
    ],
)
async def test_anything_else_is_no_cursor(storage: Storage, param: str, cursor: str) -> None:
    thread, _ = await _thread(storage, 1)
    request = PageRequest(after=cursor) if param == "after" else PageRequest(before=cursor)
    with pytest.raises(InvalidCursor) as error:
        await storage.messages.list(PROJECT, thread.id, request)
    assert (error.value.param, error.value.cursor) == (param, cursor)


async def test_every_list_has_its_own_parent_and_kind(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    runs = []
    for _ in range(2):
        run = await make_run(storage, thread)
        claim = await claimed(storage, run)
        steps = [await start_tool_calls(storage, claim) for _ in range(2)]
        await set_run(storage, run, status="completed")
        runs.append(await get_run(storage, run))
    page = PageRequest(order="asc")
    assert (await storage.runs.list(PROJECT, thread.id, page)).data == runs
    listed = await storage.runs.list_steps(PROJECT, thread.id, runs[1].id, page)
    assert listed.data == steps
    for request in (
        storage.runs.list(PROJECT, thread.id, PageRequest(after=steps[0].id)),
        storage.runs.list_steps(PROJECT, thread.id, runs[0].id, PageRequest(after=runs[0].id)),
        storage.assistants.list(PROJECT, PageRequest(after=runs[0].id)),
    ):
        with pytest.raises(InvalidCursor):
            await request
    with pytest.raises(NotFound):
        await storage.runs.list_steps(PROJECT, thread.id, "run_x", page)


async def test_assistants_are_listed_by_project(storage: Storage) -> None:
    made: list[Assistant] = [
        await storage.assistants.create(project, assistant_values())
        for project in (PROJECT, OTHER, PROJECT)
    ]
    page = await storage.assistants.list(PROJECT, PageRequest(order="asc"))
    assert page.data == [made[0], made[2]]
    # Another project's id holds a position, and nothing else.
    page = await storage.assistants.list(PROJECT, PageRequest(order="asc", after=made[1].id))
    assert page.data == [made[2]]
