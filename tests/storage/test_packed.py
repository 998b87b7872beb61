"""Rows that SQLite returns in one step: they are what they are row by row, whatever they hold."""

import json
import sqlite3
from typing import Any

import pytest
import sqlalchemy as sa

from storage import Storage, rows, tables
from storage.messages import GET, LIST
from storage.packed import Packed
from storage.pages import PageRequest
from storage.rows import table
from storage.statements import Statement, one_of, param
from storage.transaction import Transaction
from tests.support.storage.rows import PROJECT, make_run, make_thread

KINDS: list[Any] = [rows.Assistant, rows.Thread, rows.Message, rows.Run, rows.RunStep]

TEXTS = [
    "",
    "\N{GRINNING FACE}\u2028\uffff\x7f\x80",
    "'\"\\/\b\n\t\x01\x1f",
    "null",
    "5",
    "[1,",
    "%s",
]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    0.1 + 0.2,
    0.7,
    -1 / 3,
    1e-320,
    5e-324,
    1.7976931348623157e308,
    1732880000.123457,
]
INTEGERS = [0, 1, -1, 2**31 - 1]
DOCUMENTS: list[Any] = [
    *([], {}, [[]], True, False, "", "5", "null", "\0\x1f\"\\'\N{GRINNING FACE}"),
    *(0, -(2**63), 2**63 - 1, *FLOATS[3:]),
    {"b": None, "a": [2**53 + 1, 0.1, "\0"], "": {"\\": FLOATS}},
    {"digits": 12345678901234567890123},
    json.loads("[" * 300 + "]" * 300),
]
PAIRS = [{}, {'"\\\n': "\N{GRINNING FACE}'"}, {"": ""}]


def _possible(column: sa.Column[Any]) -> list[Any]:
    """Returns awkward values for a column; it takes them in turns."""
    match column.type:
        case _ if column.name == "metadata":
            found: list[Any] = PAIRS
        case sa.JSON():
            found = DOCUMENTS
        case sa.Boolean():
            found = [True, False]
        case sa.BigInteger():
            found = [*INTEGERS, 2**63 - 1, -(2**63)]
        case sa.Integer():
            found = INTEGERS
        case sa.Float():
            found = FLOATS
        case _:
            found = TEXTS
    return [None, *found] if column.nullable else found


def _awkward(kind: Any, parents: dict[str, str]) -> list[Any]:
    """Returns rows of a class, with each awkward value in each of its columns."""
    columns = table(getattr(tables, kind.__name__)).c
    names = dict(rows.columns(kind))
    made = []
    for number in range(max(len(_possible(column)) for column in columns) + 1):
        place = f"{number:026}"
        own = {"id": f"it's {number}", "position": place, **parents}
        values = {}
        for shift, column in enumerate(columns):
            possible = _possible(column)
            value = own.get(column.name, possible[(number + shift) % len(possible)])
            values[names[column.name]] = value
        made.append(kind(**values))
    return made


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_they_are_what_they_are_row_by_row(
    storage: Storage, kind: Any, descending: bool
) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    parents = {"thread_id": thread.id} if kind is not rows.RunStep else {"run_id": run.id}
    made = _awkward(kind, parents)
    columns = table(getattr(tables, kind.__name__)).c
    all_of = sa.select(columns["id"].table).where(one_of(columns.id, [each.id for each in made]))
    packed = Packed(all_of, kind, [columns.position], descending=descending)
    single = Statement(sa.select(columns["id"].table).where(columns.id == param("id")), kind)

    def work(tx: Transaction) -> tuple[list[Any], list[Any], list[Any]]:
        tx.insert(*made)
        alone = [tx.one(single, id=each.id) for each in made]
        return packed.all(tx), tx.all(packed.apart), alone[::-1] if descending else alone

    together, apart, alone = await storage.database.write(work)
    # Not only equal: 1 is no 1.0, and no True.
    assert [repr(each) for each in together] == [repr(each) for each in alone]
    assert repr(apart) == repr(together)
    assert len(together) == len(made) > 0


async def test_none(storage: Storage) -> None:
    thread = await make_thread(storage)
    page = await storage.messages.list(PROJECT, thread.id, PageRequest())
    assert (page.data, page.has_more) == ([], False)


async def test_numbers_are_read_as_they_were_written(storage: Storage) -> None:
    """SQLite writes them as text, and not always with as many digits as they need."""
    columns = table(tables.Assistant).c
    numbers = [step * 0.0001 for step in range(20001)]
    made = [
        rows.Assistant(
            id=f"{at:026}",
            project_id=PROJECT,
            position=f"{at:026}",
            created_at=0,
            model="",
            tools=[],
            tool_resources={},
            metadata_={},
            response_format=number,
            temperature=number,
        )
        for at, number in enumerate(numbers)
    ]
    packed: Packed[Any] = Packed(
        sa.select(columns["id"].table), rows.Assistant, [columns.position], descending=False
    )

    def work(tx: Transaction) -> list[Any]:
        tx.insert(*made)
        return packed.all(tx)

    assert await storage.database.write(work) == made


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_rows_that_are_too_much_for_one_text(tmp_path: Any, limit: int) -> None:
    """SQLite takes a billion bytes by default; here it takes fewer."""
    connection = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'some.db'}")
    tables.Message.metadata.create_all(engine)
    engine.dispose()
    tx = Transaction(connection.cursor(), "sqlite", PROJECT)
    message = _awkward(rows.Message, {"thread_id": "thread_1", "project_id": PROJECT})[0]
    for number in range(20):
        message.id = message.position = f"{number:026}"
        message.content = ["x" * 1000]
        tx.insert(message)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    page = LIST.page(tx, PageRequest(limit=20), thread_id="thread_1")
    alone = [tx.one(GET, thread_id="thread_1", id=f"{number:026}") for number in range(20)]
    assert page.data == alone[::-1]
    connection.close()
