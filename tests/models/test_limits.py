"""Answers that are longer than the run may take, of servers that do not see to it."""

import asyncio
from typing import Any

import pytest

from service.models.chunks import Finished, Reader
from service.models.client import ChatModel, TextDelta
from service.models.dialect import Quirk
from service.models.limits import SLACK
from tests.models.test_client import SECONDS, answer, request, text_of
from tests.support.model_server import ModelServer
from tests.support.models.raw_server import choice
from tests.support.script import Answer, Calls, Hold, Step

TOKEN = "four"
"""Text of one token, by estimate."""


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}


@pytest.mark.parametrize(
    ("step", "tokens", "reason"),
    [
        (Answer("Hello", completion_tokens=300), 300, "stop"),
        (Answer("Hello", completion_tokens=301), 301, "length"),
        (Answer("Hello", "length", completion_tokens=300), 300, "length"),
        (Answer("Hello", "content_filter", completion_tokens=301), 301, "content_filter"),
    ],
)
async def test_the_servers_own_usage_decides(
    models: ModelServer, model: ChatModel, step: Step, tokens: int, reason: str
) -> None:
    asked = request(models.script(step), max_completion_tokens=300)
    assert (await answer(model, asked))[-1] == Finished(reason, usage(tokens))  # type: ignore[arg-type]


async def test_calls_that_took_too_much(models: ModelServer, model: ChatModel) -> None:
    calls = Calls(("f", {}))
    calls.completion_tokens = 301
    asked = request(models.script(calls), max_completion_tokens=300)
    end = (await answer(model, asked))[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.usage) == ("length", usage(301))


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
async def test_an_answer_that_does_not_end(models: ModelServer, name: str) -> None:
    endless = Hold(Answer(TOKEN * 1000), after=TOKEN * 460)
    quirks = [Quirk.max_tokens] if name == "max_tokens" else []
    model = ChatModel(models.base_url, "none", 60, quirks=quirks)
    asked = request(models.script(endless), max_completion_tokens=300)
    chunks = await answer(model, asked)
    assert text_of(chunks) == TOKEN * 451
    assert chunks[-1] == Finished("length", None)
    assert await asyncio.to_thread(endless.disconnected.wait, SECONDS)
    assert models.requests(asked["model"])[0][name] == 300
    await model.close()


async def test_an_answer_within_half_as_much_again(models: ModelServer, model: ChatModel) -> None:
    step = Answer(TOKEN * 450, "length", completion_tokens=300)
    asked = request(models.script(step), max_completion_tokens=300)
    assert text_of(await answer(model, asked)) == TOKEN * 450


async def test_no_limit(models: ModelServer, model: ChatModel) -> None:
    asked = request(models.script(Answer(TOKEN * 1000, completion_tokens=9999)))
    assert (await answer(model, asked))[-1] == Finished("stop", usage(9999))


@pytest.mark.parametrize(
    "delta",
    [
        {"content": TOKEN},
        {"refusal": TOKEN},
        {"content": [{"type": "text", "text": TOKEN}]},
        {"reasoning_content": TOKEN},
        # The same twice.
        {"reasoning_content": TOKEN, "reasoning": TOKEN},
        {"content": "abc" + " " * 100},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": TOKEN}}]},
        {"content": "जन्म"},
    ],
)  # fmt: skip
def test_what_counts(delta: dict[str, Any]) -> None:
    reader = Reader(limit=10)
    for _ in range(10 + SLACK):
        reader.read(choice(**delta))
    assert not reader.broken_off
    reader.read(choice(**delta))
    assert reader.broken_off
    assert reader.finish().reason == "length"


def test_what_comes_with_the_end_breaks_nothing_off() -> None:
    reader = Reader(limit=10)
    assert reader.read(choice("stop", content=TOKEN * 100)) == [TextDelta(TOKEN * 100)]
    assert not reader.broken_off
    assert reader.finish() == Finished("stop", None)
