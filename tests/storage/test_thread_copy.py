"""Branches of a thread: what is copied, what is not, and what happens at the same time."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from sqlmodel import col, update

from storage import Storage, ids, tables
from storage.claims import MessageEnd, RunEnd, StepEnd
from storage.errors import NotFound
from storage.messages import NewMessage
from storage.pages import PageRequest
from storage.resources import Resources
from storage.rows import Thread
from storage.tables import Message, RunStatus, StepStatus
from tests.support.storage.rows import (
    ASSISTANT,
    OTHER,
    PROJECT,
    claimed,
    execute,
    make_assistant,
    make_file,
    make_run,
    make_thread,
    new_run,
    start_message,
    text_part,
    user,
)

COPIED = {
    "project_id",
    "created_at",
    "status",
    "role",
    "content",
    "attachments",
    "metadata_",
    "assistant_id",
    "completed_at",
    "incomplete_at",
    "incomplete_reason",
}
NEW = {"id", "thread_id", "position", "context_position", "run_id"}


async def _messages(storage: Storage, thread_id: str) -> list[Message]:
    page = await storage.messages.list(PROJECT, thread_id, PageRequest(100, "asc"))
    return page.data


def _texts(messages: list[Message]) -> list[str]:
    return [message.content[0]["text"]["value"] for message in messages]


async def _answered(storage: Storage, thread: Thread, text: str, reason: str | None = None) -> None:
    """Lets a run write a message, whole unless there is a reason why it is not."""
    claim = await claimed(storage, await make_run(storage, thread))
    step, message = await start_message(storage, claim)
    await storage.claims.save(
        claim,
        message=MessageEnd(message.id, [text_part(text)], reason),
        steps=[StepEnd(step.id, StepStatus.completed)],
        run=RunEnd(RunStatus.completed),
    )


async def test_a_copy_has_all_that_the_thread_has(storage: Storage) -> None:
    file_id = await make_file(storage)
    attachments: list[dict[str, Any]] = [{"file_id": file_id, "tools": []}]
    rich = [text_part('"ü" \U0001f600'), {"type": "image_url", "image_url": {"url": "u"}}]
    resources: dict[str, Any] = {"code_interpreter": {"file_ids": []}}
    await make_assistant(storage)
    thread = await storage.threads.create(
        PROJECT,
        {"a": "b"},
        Resources(resources),
        [NewMessage("assistant", rich, attachments, {"k": "v"}), user("two")],
    )
    await _answered(storage, thread, "three")
    await _answered(storage, thread, "fo", "max_tokens")
    before = await _messages(storage, thread.id)

    copy = await storage.threads.copy(PROJECT, thread.id)
    assert await storage.threads.get(PROJECT, copy.id) == copy
    assert (copy.metadata_, copy.tool_resources) == ({"a": "b"}, resources)
    copies = await _messages(storage, copy.id)
    assert {*COPIED, *NEW} == set(Message.model_fields)
    for old, new in zip(before, copies, strict=True):
        for name in COPIED:
            assert getattr(new, name) == getattr(old, name)
    assert [each.status for each in copies] == [*["completed"] * 3, "incomplete"]
    assert [each.assistant_id for each in copies] == [None, None, ASSISTANT, ASSISTANT]
    assert copies[3].incomplete_reason == "max_tokens"
    assert {each.run_id for each in copies} == {None}
    assert {each.thread_id for each in copies} == {copy.id}
    assert [ids.position_of(ids.MESSAGE, each.id) for each in copies] == [
        each.position for each in copies
    ]
    assert all(earlier.position < later.position for earlier, later in pairwise(copies))
    assert copy.last_position == copies[-1].position
    assert await _messages(storage, thread.id) == before
    assert (await storage.runs.list(PROJECT, copy.id, PageRequest())).data == []


async def test_the_copy_is_of_now_and_its_messages_are_not(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    await execute(
        storage, *(update(table).values(created_at=1) for table in (tables.Thread, Message))
    )
    copy = await storage.threads.copy(PROJECT, thread.id)
    assert copy.created_at > 1
    [message] = await _messages(storage, copy.id)
    assert message.created_at == 1
    newest = await storage.threads.list(PROJECT, PageRequest(1), {})
    assert newest.data == [copy]


async def test_up_to_a_message(storage: Storage) -> None:
    thread = await make_thread(storage, "one", "two", "three")
    messages = await _messages(storage, thread.id)
    for count, message in enumerate(messages, 1):
        copy = await storage.threads.copy(PROJECT, thread.id, message.id)
        assert _texts(await _messages(storage, copy.id)) == ["one", "two", "three"][:count]
    imported = update(Message).where(col(Message.id) == messages[1].id)
    await execute(storage, imported.values(id="msg_abc123"))
    copy = await storage.threads.copy(PROJECT, thread.id, "msg_abc123")
    assert _texts(await _messages(storage, copy.id)) == ["one", "two"]


async def test_an_empty_thread(storage: Storage) -> None:
    thread = await make_thread(storage)
    copy = await storage.threads.copy(PROJECT, thread.id)
    assert copy.id != thread.id
    assert copy.last_position is None
    assert await _messages(storage, copy.id) == []


async def test_a_copy_lives_on_its_own(storage: Storage) -> None:
    thread = await make_thread(storage, "one")
    copy = await storage.threads.copy(PROJECT, thread.id)
    await storage.messages.create(PROJECT, copy.id, user("here"))
    await storage.messages.create(PROJECT, thread.id, user("there"))
    await storage.threads.modify(PROJECT, copy.id, {"metadata_": {"a": "b"}})
    await _answered(storage, copy, "yes")
    assert _texts(await _messages(storage, copy.id)) == ["one", "here", "yes"]
    again = await storage.threads.copy(PROJECT, copy.id)
    await storage.threads.delete(PROJECT, copy.id)
    assert _texts(await _messages(storage, thread.id)) == ["one", "there"]
    assert (await storage.threads.get(PROJECT, thread.id)).metadata_ == {}
    assert _texts(await _messages(storage, again.id)) == ["one", "here", "yes"]


async def test_what_is_not_there(storage: Storage) -> None:
    thread, other = await make_thread(storage, "hi"), await make_thread(storage, "hi")
    [elsewhere] = await _messages(storage, other.id)
    for project, thread_id, message_id, missing in (
        (PROJECT, "thread_x", None, "thread"),
        (PROJECT, "thread_x", elsewhere.id, "thread"),
        (OTHER, thread.id, None, "thread"),
        (PROJECT, thread.id, "msg_x", "message"),
        (PROJECT, thread.id, elsewhere.id, "message"),
    ):
        with pytest.raises(NotFound) as error:
            await storage.threads.copy(project, thread_id, message_id)
        assert error.value.kind == missing
    assert len((await storage.threads.list(PROJECT, PageRequest(), {})).data) == 2


async def test_while_a_run_is_active(storage: Storage) -> None:
    thread = await make_thread(storage, "hi")
    run = await make_run(storage, thread)
    waiting = await storage.threads.copy(PROJECT, thread.id)
    claim = await claimed(storage, run)
    _, writing = await start_message(storage, claim)
    # All, and up to the message that is being written: it is left out either way.
    for up_to in (None, writing.id):
        copy = await storage.threads.copy(PROJECT, thread.id, up_to)
        assert _texts(await _messages(storage, copy.id)) == ["hi"]
        # The copy is free: no run is active in it.
        await storage.runs.create(PROJECT, copy.id, new_run(), [user("and")])
    assert _texts(await _messages(storage, waiting.id)) == ["hi"]
    await storage.claims.save(
        claim, message=MessageEnd(writing.id, [text_part("yes")]), run=RunEnd(RunStatus.completed)
    )
    assert _texts(await _messages(storage, thread.id)) == ["hi", "yes"]


async def test_many_copies_while_the_thread_grows(storage: Storage) -> None:
    """A copy is a beginning of its thread, whatever is written or copied meanwhile."""
    thread = await make_thread(storage, "0")

    async def write() -> None:
        for number in range(1, 20):
            await storage.messages.create(PROJECT, thread.id, user(str(number)))

    async def copy() -> list[str]:
        return [(await storage.threads.copy(PROJECT, thread.id)).id for _ in range(5)]

    writing = asyncio.create_task(write())
    copied = await asyncio.gather(*(copy() for _ in range(4)))
    await writing
    whole = _texts(await _messages(storage, thread.id))
    assert whole == [str(number) for number in range(20)]
    for mine in copied:
        lengths = []
        for copy_id in mine:
            texts = _texts(await _messages(storage, copy_id))
            assert texts == whole[: len(texts)]
            lengths.append(len(texts))
        assert lengths == sorted(lengths)


async def test_a_thread_that_is_deleted_meanwhile(storage: Storage) -> None:
    """Copies are whole, or there are none."""
    thread = await make_thread(storage, *map(str, range(50)))
    results = await asyncio.gather(
        *(storage.threads.copy(PROJECT, thread.id) for _ in range(3)),
        storage.threads.delete(PROJECT, thread.id),
        *(storage.threads.copy(PROJECT, thread.id) for _ in range(3)),
        return_exceptions=True,
    )
    copies = [each for each in results if isinstance(each, Thread)]
    assert all(isinstance(each, Thread | NotFound | list) for each in results)
    listed = await storage.threads.list(PROJECT, PageRequest(order="asc"), {})
    assert {each.id for each in listed.data} == {each.id for each in copies}
    for each in copies:
        assert len(await _messages(storage, each.id)) == 50


async def test_a_big_thread(storage: Storage) -> None:
    thread = await make_thread(storage, *map(str, range(5000)))
    copy = await storage.threads.copy(PROJECT, thread.id)
    texts: list[str] = []
    page, more = PageRequest(100, "asc"), True
    while more:
        found = await storage.messages.list(PROJECT, copy.id, page)
        texts += _texts(found.data)
        page, more = PageRequest(100, "asc", after=found.data[-1].id), found.has_more
    assert texts == [str(number) for number in range(5000)]
