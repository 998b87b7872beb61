"""A long thread is read from its newest message backwards, and no further than a prompt needs."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.models.client import ChatModel
from service.models.sizes import Prompt
from service.models.tokens import TokenCounter
from service.runner import history, prompt
from service.runner.history import History, turn_of
from service.runner.prompt import OutOfTokens
from storage import Storage, rows
from storage.claims import MessageEnd, RunEnd, StepEnd
from storage.tables import Message, Run, RunStatus, StepStatus, Thread
from tests.support.runs.prompts import NO_TOOLS, context, message, run
from tests.support.storage.rows import (
    PROJECT,
    claimed,
    make_run,
    make_thread,
    start_message,
    text_part,
    user,
)
from tests.support.waiting import counting_turns

MIB = 2**20


class Pages:
    """A thread that is read in portions."""

    def __init__(self, thread: list[Message], left: int | None = None) -> None:
        self.thread = thread[len(thread) - left :] if left is not None else thread
        for number, each in enumerate(self.thread):
            each.position = each.context_position = f"{number:026}"
        self.read = 0

    async def earlier(self, before: Message, limit: int) -> list[Message]:
        await asyncio.sleep(0)
        assert before is self.thread[len(self.thread) - self.read]
        return self._next(limit)

    def _next(self, limit: int) -> list[Message]:
        end = len(self.thread) - self.read
        found = self.thread[max(end - limit, 0) : end]
        self.read += len(found)
        return found

    def history(self) -> History:
        return History(context(*self._next(history.FIRST_PORTION)), self.earlier)


@contextlib.asynccontextmanager
async def counter(known: int | None) -> AsyncIterator[TokenCounter]:
    """Gives estimates: the address is nobody's."""
    model = ChatModel("http://127.0.0.1:1/v1", "none", idle_timeout=1, context=known)
    yield model.tokens
    await model.close()


async def all_of_it(
    asked: Run, thread: list[Message], known: int | None, tokens: TokenCounter, max_bytes: int
) -> list[dict[str, Any]]:
    """The turns of a prompt as they are found by trying each, from the whole thread on."""
    turns = [turn for turn in map(turn_of, thread) if turn["content"]]
    users = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    most = users[-1] if users else len(turns)
    room = None if known is None else known - known // 4
    budgets = [each for each in (asked.max_prompt_tokens, room) if each is not None]
    for first in range(most + 1):
        whole = [{"role": "system", "content": asked.instructions}, *turns[first:]]
        request = await Prompt.of({"model": "m", "messages": whole})
        sent = await Prompt.of({"model": "m", "messages": turns[first:]})
        # As JSON, a turn has 28 or 33 bytes besides its text.
        heads = {"user": 28, "assistant": 33}
        size = sent.size.bytes + sum(heads[turn["role"]] for turn in turns[first:])
        if (known is not None or size <= max_bytes) and all(
            [await tokens.fits(request, budget) for budget in budgets]
        ):
            return whole
    if asked.max_prompt_tokens and not await tokens.fits(request, asked.max_prompt_tokens):
        raise OutOfTokens("max_prompt_tokens")
    return whole


MESSAGES = st.builds(
    lambda role, size, blank: message(role, " " if blank else "x" * size),
    st.sampled_from(["user", "assistant", "assistant"]),
    st.integers(1, 2000),
    st.integers(0, 9).map(lambda n: n == 0),
)


@settings(max_examples=100)
@given(
    thread=st.lists(MESSAGES, max_size=60),
    budget=st.none() | st.integers(256, 8000),
    known=st.sampled_from([None, 256, 500, 1000, 2000, 4000, 8000]),
    max_bytes=st.integers(1024, 30_000) | st.just(MIB),
    portion=st.integers(1, 20),
)
async def test_portions_make_the_same_prompt(
    thread: list[Message], budget: int | None, known: int | None, max_bytes: int, portion: int
) -> None:
    asked = run(max_prompt_tokens=budget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "FIRST_PORTION", portion)
        patch.setattr(history, "LARGEST_PORTION", 2 * portion)
        read = Pages(thread).history()
        async with counter(known) as tokens:
            try:
                expected = await all_of_it(asked, thread, known, tokens, max_bytes)
            except OutOfTokens:
                with pytest.raises(OutOfTokens):
                    await prompt.build(asked, read, NO_TOOLS, tokens, max_bytes)
                return
            built = await prompt.build(asked, read, NO_TOOLS, tokens, max_bytes)
            assert built["messages"] == expected


LONG = 20_000


@functools.cache
def long_thread() -> list[Message]:
    return [
        rows.Message(
            id=f"msg_{number}",
            project_id=PROJECT,
            thread_id="thread_1",
            position="",
            context_position="",
            created_at=1,
            status="completed",
            role="assistant" if number % 2 else "user",
            content=[text_part("x" * 90)],
            attachments=[],
            metadata_={},
        )
        for number in range(LONG)
    ]


@pytest.mark.parametrize(
    ("known", "budget", "sent"), [(8192, None, 230), (None, 6144, 230), (None, None, 8560)]
)
async def test_of_a_long_thread_little_is_read(
    known: int | None, budget: int | None, sent: int
) -> None:
    pages = Pages(long_thread())
    asked = run(max_prompt_tokens=budget)
    async with counter(known) as tokens:
        built = await prompt.build(asked, pages.history(), NO_TOOLS, tokens, MIB)
    assert len(built["messages"]) == pytest.approx(sent, rel=0.05)
    assert pages.read <= 3 * sent


async def test_others_get_their_turn_while_a_long_prompt_is_built() -> None:
    async with counter(10**7) as tokens:
        pages = Pages(long_thread())
        async with counting_turns() as turns:
            built = await prompt.build(run(), pages.history(), NO_TOOLS, tokens, MIB)
            assert len(built["messages"]) == LONG + 1
            # At least one turn for every thousand messages.
            assert turns() >= LONG / 1000
        async with counting_turns() as turns:
            await tokens.learn(built, 10**6)
            assert turns() >= LONG / 1000


async def test_the_newest_user_far_back_stays() -> None:
    thread = [message("user", "old"), message("user", "asked")]
    thread += [message("assistant", "x" * 1000) for _ in range(500)]
    async with counter(2000) as tokens:
        built = await prompt.build(run(), Pages(thread).history(), NO_TOOLS, tokens, MIB)
    assert [each["content"] for each in built["messages"][:2]] == ["Be brief.", "asked"]
    assert len(built["messages"]) == 502


async def test_what_was_read_is_not_read_again() -> None:
    pages = Pages(long_thread())
    read = pages.history()
    async with counter(None) as tokens:
        first = await prompt.build(run(), read, NO_TOOLS, tokens, MIB)
        before = pages.read
        await tokens.exceeded(first, 8192)
        second = await prompt.build(run(), read, NO_TOOLS, tokens, MIB)
    assert 0 < len(second["messages"]) < len(first["messages"])
    assert pages.read == before


async def say(storage: Storage, thread: Thread, asked: Run, text: str) -> None:
    """Answers a run, after a message that came too late for it."""
    claim = await claimed(storage, asked)
    step, spoken = await start_message(storage, claim)
    await storage.messages.create(PROJECT, thread.id, user(f"late {text}"), queue=True)
    await storage.claims.save(
        claim,
        message=MessageEnd(spoken.id, [text_part(text)]),
        steps=[StepEnd(step.id, StepStatus.completed)],
        run=RunEnd(RunStatus.completed),
    )


@pytest.mark.parametrize("last", [None, 1, 2, 3, 10, 100])
async def test_portions_of_what_is_stored(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, last: int | None
) -> None:
    monkeypatch.setattr(history, "FIRST_PORTION", 2)
    monkeypatch.setattr(history, "LARGEST_PORTION", 3)
    thread = await make_thread(storage, "one")
    expected = ["one"]
    for number in range(4):
        asked = await make_run(storage, thread)
        await say(storage, thread, asked, f"answer {number}")
        expected += [f"answer {number}", f"late answer {number}"]
    strategy = {"type": "last_messages" if last else "auto", "last_messages": last}
    asked = await make_run(storage, thread, truncation_strategy=strategy)
    read = await History.begin(storage.claims, await claimed(storage, asked))
    while await read.extend():
        pass
    contents = [turn["content"] for turn in read.newest(len(read))]
    assert contents == expected[-(last or 100) :]
