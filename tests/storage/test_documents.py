"""JSON columns: what is written is what is read, whatever JSON it is."""

import json
from typing import Any

import pytest
from sqlmodel import col, update

from storage import Storage
from storage.tables import Assistant
from tests.support.storage.rows import PROJECT, assistant_values, execute, make_thread, user

DEEP: Any = json.loads("[" * 500 + "]" * 500)


@pytest.mark.parametrize(
    "document",
    [
        *("", "5", "\N{GRINNING FACE}", "% %s :a ? \\ ' \" \u2028 \uffff", False, True, [], {}),
        *(0, 5, -(2**63), 2**63 - 1, 0.5, 1e308, {"a": None, "b": [None, 2**53]}),
        {"b": 1, "a": 2, "": {"\N{GRINNING FACE}": 1.0}},
        pytest.param(DEEP, id="deep"),
    ],
)
async def test_what_is_written_is_read(storage: Storage, document: Any) -> None:
    made = await storage.assistants.create(PROJECT, assistant_values(response_format=document))
    found = await storage.assistants.get(PROJECT, made.id)
    assert repr(found.response_format) == repr(document)
    assert found == made


async def test_an_integer_of_more_than_64_bits(storage: Storage) -> None:
    """It becomes the number that JSON's readers make of it."""
    made = await storage.assistants.create(PROJECT, assistant_values(response_format={"a": 2**70}))
    found = await storage.assistants.get(PROJECT, made.id)
    assert found.response_format == {"a": float(2**70)}


async def test_halves_of_surrogate_pairs_are_refused(storage: Storage) -> None:
    """Stored, nobody could read them again."""
    thread = await make_thread(storage)
    for text in ("a\ud83d", "\udc00"):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            await storage.messages.create(PROJECT, thread.id, user(text))


async def test_null_within_a_document_stays(storage: Storage) -> None:
    made = await storage.assistants.create(PROJECT, assistant_values())
    changed = {"tools": [{"type": "function", "strict": None}]}
    await storage.assistants.modify(PROJECT, made.id, changed)
    assert (await storage.assistants.get(PROJECT, made.id)).tools == changed["tools"]


async def test_a_document_in_the_statement_itself(storage: Storage) -> None:
    made = await storage.assistants.create(PROJECT, assistant_values())
    changed = update(Assistant).where(col(Assistant.id) == made.id)
    await execute(storage, changed.values(tools=[{"a": 1}], metadata_={"k": "v"}))
    found = await storage.assistants.get(PROJECT, made.id)
    assert (found.tools, found.metadata_) == ([{"a": 1}], {"k": "v"})
