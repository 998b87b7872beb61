"""The list of threads and its filter, and what the databases read for it."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, update

from storage import Storage, ids, rows
from storage.errors import InvalidCursor
from storage.pages import PageRequest
from storage.resources import NOTHING, Resources
from storage.tables import Thread
from tests.support.storage.recording import Plan, plan, transactions
from tests.support.storage.rows import OTHER, PROJECT, execute, make_run, make_thread

ODD_KEYS = [
    "",
    " ",
    "a.b",
    "$",
    "$.a",
    "[0]",
    "0",
    "#-1",
    '"',
    'a"b',
    "'",
    "\\",
    '\\"',
    "%",
    "_",
    "?",
    ":key",
    "\n\t",
    "é",
    "e\u0301",
    "ключ",
    "鍵",
    "\U0001f511",
    "\u2028",
    "A",
    "a",
]


async def _made(storage: Storage, *metadata: dict[str, str]) -> list[str]:
    return [(await storage.threads.create(PROJECT, each, NOTHING, [])).id for each in metadata]


async def _listed(
    storage: Storage, metadata: Mapping[str, str], page: PageRequest | None = None
) -> list[str]:
    found = await storage.threads.list(PROJECT, page or PageRequest(100, "asc"), metadata)
    return [thread.id for thread in found.data]


async def test_newest_first_page_by_page(storage: Storage) -> None:
    made = await _made(storage, *[{}] * 5)
    assert await _listed(storage, {}, PageRequest()) == made[::-1]
    page = await storage.threads.list(PROJECT, PageRequest(2), {})
    assert ([each.id for each in page.data], page.has_more) == (made[:2:-1], True)
    page = await storage.threads.list(PROJECT, PageRequest(2, after=made[1]), {})
    assert ([each.id for each in page.data], page.has_more) == (made[:1], False)
    page = await storage.threads.list(PROJECT, PageRequest(2, before=made[1]), {})
    assert ([each.id for each in page.data], page.has_more) == (made[3:1:-1], True)


async def test_a_thread_is_listed_as_it_is_got(storage: Storage) -> None:
    thread = await storage.threads.create(
        PROJECT, {"a": "b"}, Resources({"code_interpreter": {"file_ids": []}}), []
    )
    [listed] = (await storage.threads.list(PROJECT, PageRequest(), {})).data
    assert listed == thread


async def test_threads_are_listed_by_project(storage: Storage) -> None:
    made = await _made(storage, {"a": "b"})
    await storage.threads.create(OTHER, {"a": "b"}, NOTHING, [])
    assert await _listed(storage, {}) == made
    assert await _listed(storage, {"a": "b"}) == made


async def test_the_cursor_is_a_thread_that_may_be_gone_or_filtered_out(storage: Storage) -> None:
    made = await _made(storage, {"a": "1"}, {"a": "2"}, {"a": "1"})
    assert await _listed(storage, {"a": "1"}, PageRequest(order="asc", after=made[1])) == made[2:]
    await storage.threads.delete(PROJECT, made[1])
    assert await _listed(storage, {}, PageRequest(order="asc", after=made[1])) == made[2:]
    run = await make_run(storage, await make_thread(storage))
    for cursor in (run.id, "thread_x", ""):
        with pytest.raises(InvalidCursor):
            await _listed(storage, {}, PageRequest(after=cursor))


async def test_an_imported_thread_is_a_cursor(storage: Storage) -> None:
    made = await _made(storage, *[{}] * 3)
    renamed = update(Thread).where(col(Thread.id) == made[1]).values(id="thread_abc123")
    await execute(storage, renamed)
    asked = PageRequest(order="asc", after="thread_abc123")
    assert await _listed(storage, {}, asked) == made[2:]
    # It keeps its place in what a filter leaves, without being left itself.
    await storage.threads.modify(PROJECT, made[2], {"metadata_": {"a": "b"}})
    assert await _listed(storage, {"a": "b"}, asked) == made[2:]
    with pytest.raises(InvalidCursor):
        await storage.threads.list(OTHER, asked, {})


async def test_every_pair_must_match_exactly(storage: Storage) -> None:
    both, one, other, none = await _made(
        storage, {"a": "1", "b": "2", "c": "3"}, {"a": "1"}, {"a": "10", "b": "2"}, {}
    )
    assert await _listed(storage, {}) == [both, one, other, none]
    assert await _listed(storage, {"a": "1"}) == [both, one]
    assert await _listed(storage, {"b": "2", "a": "1"}) == [both]
    assert await _listed(storage, {"b": "2"}) == [both, other]
    for nowhere in ({"a": "2"}, {"A": "1"}, {"a": ""}, {"a": "1 "}, {"a": "1", "d": "4"}):
        assert await _listed(storage, nowhere) == []


async def test_keys_and_values_are_compared_as_they_are(storage: Storage) -> None:
    made = await _made(storage, *({key: key} for key in ODD_KEYS))
    for key, id in zip(ODD_KEYS, made, strict=True):
        assert await _listed(storage, {key: key}) == [id], repr(key)
        assert await _listed(storage, {key: key + "x"}) == []


async def test_values_that_read_like_other_json_are_strings(storage: Storage) -> None:
    values = ["1", "1.0", "true", "null", "", "{}", "[]", '"1"']
    made = await _made(storage, *({"k": value} for value in values))
    for value, id in zip(values, made, strict=True):
        assert await _listed(storage, {"k": value}) == [id], value


async def test_as_many_pairs_as_there_can_be(storage: Storage) -> None:
    pairs = {f"{number:064}": "v" * 512 for number in range(16)}
    made = await _made(storage, pairs, dict(list(pairs.items())[:15]))
    assert await _listed(storage, pairs) == made[:1]
    assert await _listed(storage, dict(list(pairs.items())[:15])) == made


async def test_the_filter_sees_changes(storage: Storage) -> None:
    [thread] = await _made(storage, {"a": "1"})
    await storage.threads.modify(PROJECT, thread, {"metadata_": {"a": "2"}})
    assert await _listed(storage, {"a": "1"}) == []
    assert await _listed(storage, {"a": "2"}) == [thread]


async def test_pages_of_what_the_filter_leaves(storage: Storage) -> None:
    made = await _made(storage, *({"even": str(number % 2 == 0)} for number in range(10)))
    seen: list[str] = []
    for _ in range(3):
        after = seen[-1] if seen else None
        page = await storage.threads.list(PROJECT, PageRequest(2, after=after), {"even": "True"})
        seen += [thread.id for thread in page.data]
        assert page.has_more == (len(seen) < 5)
    assert seen == made[::2][::-1]


async def _plan(storage: Storage, page: PageRequest, metadata: Mapping[str, str]) -> Plan:
    """Returns how the database finds the page: the plan of the very statement that reads it."""
    with transactions() as ended:
        await storage.threads.list(PROJECT, page, metadata)
    [listing] = ended
    return plan(storage, *listing.statements[-1])


async def _fill(storage: Storage, count: int) -> None:
    """Inserts many threads, and has the database count them."""
    positions = [ids.new_position() for _ in range(count)]
    threads = [
        rows.Thread(
            id=ids.make_id(ids.THREAD, position),
            project_id=PROJECT,
            position=position,
            created_at=1,
            metadata_={"number": str(number)},
            tool_resources={},
        )
        for number, position in enumerate(positions)
    ]
    await storage.database.write(lambda tx: tx.insert(*threads))
    await execute(storage, text("ANALYZE"))


@pytest.mark.parametrize("cursor", ["none", "after", "before"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_is_a_range_of_the_index(storage: Storage, order: Any, cursor: str) -> None:
    made = await _made(storage, *[{}] * 3)
    cursors = {} if cursor == "none" else {cursor: made[1]}
    plan = await _plan(storage, PageRequest(20, order, **cursors), {})
    assert (plan.indexes, plan.scans, plan.sorts) == (["threads_by_position"], [], False)


async def test_how_the_filter_finds_one_thread_of_many(storage: Storage) -> None:
    await _fill(storage, 3000)
    plan = await _plan(storage, PageRequest(), {"number": "7"})
    if storage.database.url.get_backend_name() == "postgresql":
        assert (plan.indexes, plan.scans) == (["threads_by_metadata"], [])
    else:
        assert (plan.indexes, plan.scans, plan.sorts) == (["threads_by_position"], [], False)
