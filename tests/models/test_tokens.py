"""Counting the tokens of a prompt: by the model server's tokenizer, or by an estimate."""

import asyncio
import json
from typing import Any

import pytest

from service.models import tokens
from service.models.client import ChatModel
from service.models.sizes import Prompt
from tests.support.model_server import ModelServer, Tokenizer
from tests.support.models.raw_server import SILENCE, RawServer
from tests.support.script import Answer

TEMPLATE = tokens.TOKENS_PER_MESSAGE


def request(model: str, *contents: Any, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": content} for content in contents]
    return {"model": model, "messages": turns, **more}


def json_answer(value: Any, status: int = 200) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def test_an_estimate_where_there_is_no_tokenizer(
    models: ModelServer, model: ChatModel
) -> None:
    name = models.script()
    assert await model.tokens.count(request(name, "x" * 400)) == 100 + TEMPLATE
    # By bytes: other scripts take more tokens per character.
    assert await model.tokens.count(request(name, "語" * 400)) == 300 + TEMPLATE
    assert await model.tokens.count(request(name)) == 0


@pytest.mark.parametrize("tokenizer", ["llama.cpp", "vllm"])
async def test_the_tokenizer_is_asked(
    models: ModelServer, model: ChatModel, tokenizer: Tokenizer
) -> None:
    name = models.script(tokenizer=tokenizer)
    text = "one two three four"
    assert await model.tokens.count(request(name, text)) == 4 + TEMPLATE
    assert await model.tokens.count(request(name, text, "five")) == 5 + 2 * TEMPLATE
    assert await model.tokens.count(request(name, "")) == TEMPLATE
    # The first time, whether there is one is found out with a text of no meaning.
    assert models.tokenized(name) == ["Hello", text, f"{text}\nfive"]


async def test_what_counts(models: ModelServer, model: ChatModel) -> None:
    name = models.script(tokenizer="vllm")
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "a b"}}
    asked = request(
        name,
        [{"type": "text", "text": "c d"}, {"type": "image_url", "image_url": {"url": "data:,x y"}}],
        tools=[{"e": "f"}],
        response_format={"g": "h"},
        temperature=1,
    )
    asked["messages"] += [
        {
            "role": "assistant",
            "content": None,
            "reasoning": "k l",
            "reasoning_details": [{"text": "m"}],
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "i j"},
    ]
    counted = await model.tokens.count(asked)
    assert models.tokenized(name)[-1] == 'c d\nk l\nf a b\ni j\n[{"e": "f"}]\n{"g": "h"}'
    assert counted == 13 + 3 * TEMPLATE + tokens.TOKENS_PER_IMAGE


async def test_text_too_long_for_a_tokenizer(models: ModelServer, model: ChatModel) -> None:
    name = models.script(tokenizer="llama.cpp")
    long = "x" * (tokens.MAX_TOKENIZED + 1)
    assert await model.tokens.count(request(name, long)) == len(long) // 4 + TEMPLATE
    assert models.tokenized(name) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>Welcome</html>",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        json_answer({"message": "overloaded"}, 503),
        json_answer([1, 2, 3]),
        json_answer({}),
        json_answer({"tokens": []}),
        json_answer({"tokens": 5}),
        json_answer({"tokens": None}),
        json_answer({"count": "2"}),
        json_answer({"count": None}),
        json_answer({"count": -1}),
        json_answer({"count": 1.5}),
        json_answer({"count": True}),
        json_answer({"count": 1e300}),
        json_answer({"count": 10**9}),
    ],
    ids=range(18),
)
async def test_what_is_no_tokenizer(raw: RawServer, odd_model: ChatModel, answer: bytes) -> None:
    raw.answer(answer)
    for _ in range(2):
        assert await odd_model.tokens.count(request("m", "x" * 400)) == 100 + TEMPLATE
    # It is not asked again, and never got a word of the conversation.
    assert len(raw.requests) == 1
    assert "xxx" not in raw.requests[0]


async def test_a_tokenizer_that_breaks(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(json_answer({"tokens": [1]}))
    raw.answer(json_answer({"tokens": [1, 2]}))
    raw.answer(json_answer({"message": "overloaded"}, 500))
    counts = [await odd_model.tokens.count(request("m", "x" * 400)) for _ in range(3)]
    assert counts == [2 + TEMPLATE, 100 + TEMPLATE, 100 + TEMPLATE]
    assert len(raw.requests) == 3
    # Another model may have another tokenizer.
    await odd_model.tokens.count(request("n", "x"))
    assert len(raw.requests) == 4


async def test_a_tokenizer_that_is_silent(
    raw: RawServer, odd_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PATIENCE", 0.05)
    raw.answer(SILENCE)
    assert await odd_model.tokens.count(request("m", "x" * 400)) == 100 + TEMPLATE
    await asyncio.wait_for(raw.disconnected.wait(), 30)


async def test_it_is_looked_for_again(
    raw: RawServer, odd_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PROBE_AGAIN", 0)
    raw.answer(json_answer({}, 404))
    raw.answer(json_answer({"tokens": [1]}))
    counts = [await odd_model.tokens.count(request("m", "x" * 400)) for _ in range(2)]
    assert counts == [100 + TEMPLATE, 1 + TEMPLATE]


async def test_where_it_is_looked_for(raw: RawServer) -> None:
    raw.answer(json_answer({"tokens": [1]}))
    root = raw.base_url.removesuffix("/v1")
    for base_url in (f"{root}/v1", f"{root}/v1/", f"{root}/proxy/v1", root):
        model = ChatModel(base_url, "none", idle_timeout=60)
        await model.tokens.count(request("m", ""))
        await model.close()
    paths = [each.split()[1] for each in raw.requests]
    assert paths == ["/tokenize", "/tokenize", "/proxy/tokenize", "/tokenize"]


async def test_estimates_learn_from_what_is_reported(models: ModelServer, model: ChatModel) -> None:
    other = models.script()
    name = models.script(*[Answer("Yes.", prompt_tokens=200) for _ in range(20)])
    asked = request(name, "x" * 384)
    counts = []
    for _ in range(20):
        counts.append(await model.tokens.count(asked))
        assert [chunks async for chunks in model.stream(asked)]
    assert counts[:3] == [100, 130, 151]
    assert counts == sorted(counts)
    assert counts[-1] in (199, 200)
    # Each model has its own.
    assert await model.tokens.count(asked | {"model": other}) == 100


@pytest.mark.parametrize(
    ("content", "reported", "ratio"),
    [
        ("x" * 384, 10, 0.25),
        ("x" * 384, 10**9, 4),
        ("x" * 384, 0, 1),
        ("x" * 384, -5, 1),
        ("x" * 300, 300, 1),
        ([{"type": "text", "text": "x" * 384}, {"type": "image_url"}], 900, 1),
    ],
    ids=["too few", "too many", "none", "less than none", "short", "images"],
)
async def test_bounds_of_what_is_learned(
    model: ChatModel, content: Any, reported: int, ratio: float
) -> None:
    for _ in range(100):
        await model.tokens.learn(request("m", content), reported)
    counted = await model.tokens.count(request("m", "x" * 4 * tokens.MAX_TOKENIZED))
    assert counted == pytest.approx((tokens.MAX_TOKENIZED + TEMPLATE) * ratio)


async def test_what_is_surely_too_long_or_short_enough_is_not_counted(
    models: ModelServer, model: ChatModel
) -> None:
    name = models.script(tokenizer="llama.cpp")
    short = await Prompt.of(request(name, "four words of text"))
    assert await model.tokens.fits(short, 22)
    long = await Prompt.of(request(name, "a word " * 1000))
    assert not await model.tokens.fits(long, 256)
    assert models.tokenized(name) == []
    assert await model.tokens.fits(short, 8)
    assert not await model.tokens.fits(short, 7)
    assert models.tokenized(name) != []


async def test_the_smaller_context_counts(models: ModelServer) -> None:
    model = ChatModel(models.base_url, "none", idle_timeout=60, context=4096)
    assert model.tokens.context("m") == 4096
    await model.tokens.exceeded(request("m", "Hi"), 2048)
    await model.tokens.exceeded(request("n", "Hi"), 8192)
    assert [model.tokens.context(name) for name in "mn"] == [2048, 4096]
    await model.close()


@pytest.mark.parametrize(
    ("contents", "more", "counted"),
    [
        # It was thought to take 100, and took more than 300.
        (["x" * 384], {}, 300),
        # The server may have counted 100 of the answer among them.
        (["x" * 384], {"max_completion_tokens": 100}, 200),
        # Nothing new: it was known to be longer.
        (["x" * 4000], {}, 100),
        (["x" * 4], {}, 400),
    ],
    ids=["longer than thought", "with its answer", "as thought", "bounded"],
)
async def test_estimates_learn_from_refusals(
    model: ChatModel, contents: list[str], more: dict[str, Any], counted: int
) -> None:
    await model.tokens.exceeded(request("m", *contents, **more), 300)
    assert await model.tokens.count(request("m", "x" * 384)) == counted


async def test_models_are_forgotten(model: ChatModel) -> None:
    asked = request("first", "x" * 4 * tokens.MAX_TOKENIZED)
    await model.tokens.learn(asked, 10**9)
    learned = await model.tokens.count(asked)
    for n in range(tokens.MAX_MODELS - 1):
        await model.tokens.learn(request(f"m{n}", "x" * 400), 100)
    assert await model.tokens.count(asked) == learned
    for n in range(tokens.MAX_MODELS):
        await model.tokens.learn(request(f"n{n}", "x" * 400), 100)
    assert await model.tokens.count(asked) < learned
