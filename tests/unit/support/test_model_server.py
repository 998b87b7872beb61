"""The model server does what its scripts say, as OpenAI's own client sees it."""

import asyncio
import json

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from tests.support.model_server import ModelServer
from tests.support.script import Answer, BreakOff, Calls, Fail, Hold, Refusal, Step

SECONDS = 10
"""How long to wait for what must happen."""


@pytest.fixture
def client(models: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=models.base_url, api_key="test", max_retries=0)


def ask(client: openai.OpenAI, model: str) -> openai.Stream[ChatCompletionChunk]:
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def finish_of(chunks: list[ChatCompletionChunk]) -> str | None:
    return [c.choices[0].finish_reason for c in chunks if c.choices][-1]


def test_an_answer_comes_in_chunks_and_with_usage(
    models: ModelServer, client: openai.OpenAI
) -> None:
    model = models.script(Answer("Hello there", prompt_tokens=7, completion_tokens=3))
    chunks = list(ask(client, model))
    assert text_of(chunks) == "Hello there"
    assert len(chunks) > 3
    assert finish_of(chunks) == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    [request] = models.requests(model)
    assert request["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_ends_for_a_reason(
    models: ModelServer, client: openai.OpenAI, reason: str
) -> None:
    assert finish_of(list(ask(client, models.script(Answer("Hel", reason))))) == reason


def test_an_empty_answer(models: ModelServer, client: openai.OpenAI) -> None:
    chunks = list(ask(client, models.script(Answer())))
    assert (text_of(chunks), finish_of(chunks)) == ("", "stop")


def test_a_refusal(models: ModelServer, client: openai.OpenAI) -> None:
    chunks = list(ask(client, models.script(Refusal("I will not."))))
    assert text_of(chunks) == ""
    assert "".join(c.choices[0].delta.refusal or "" for c in chunks if c.choices) == "I will not."


def test_text_and_parallel_calls_in_one_turn(models: ModelServer, client: openai.OpenAI) -> None:
    calls = Calls(("get_weather", {"city": "Paris"}), ("broken", "{"), text="Let me see.")
    chunks = list(ask(client, models.script(calls)))
    assert (text_of(chunks), finish_of(chunks)) == ("Let me see.", "tool_calls")
    arguments = ["", ""]
    named = []
    for call in (c for chunk in chunks if chunk.choices for c in _calls(chunk)):
        assert call.function is not None
        arguments[call.index] += call.function.arguments or ""
        if call.function.name is not None:
            named.append((call.index, call.id, call.function.name))
    assert named == [(0, "call_0", "get_weather"), (1, "call_1", "broken")]
    assert json.loads(arguments[0]) == {"city": "Paris"}
    assert arguments[1] == "{"


def _calls(chunk: ChatCompletionChunk) -> list[ChoiceDeltaToolCall]:
    return chunk.choices[0].delta.tool_calls or []


def test_steps_are_played_in_order(models: ModelServer, client: openai.OpenAI) -> None:
    failure = Fail(429, "slow down", "busy", retry_after=3)
    model = models.script(Answer("one"), failure, Answer("two"))
    assert text_of(list(ask(client, model))) == "one"
    with pytest.raises(openai.RateLimitError, match="slow down") as error:
        ask(client, model)
    assert (error.value.code, error.value.response.headers["retry-after"]) == ("busy", "3")
    assert text_of(list(ask(client, model))) == "two"
    assert len(models.requests(model)) == 3


def test_a_connection_that_breaks_before_the_first_byte(
    models: ModelServer, client: openai.OpenAI
) -> None:
    with pytest.raises(openai.APIConnectionError):
        ask(client, models.script(BreakOff()))


def test_a_connection_that_breaks_in_the_middle(models: ModelServer, client: openai.OpenAI) -> None:
    text = ""
    with pytest.raises(openai.APIConnectionError):
        for chunk in ask(client, models.script(BreakOff(after="Hello"))):
            text += text_of([chunk])
    assert text == "Hello"


def test_a_stream_that_stops_short_politely(models: ModelServer, client: openai.OpenAI) -> None:
    chunks = list(ask(client, models.script(BreakOff(after="Hel", politely=True))))
    assert (text_of(chunks), finish_of(chunks)) == ("Hel", None)


def read_until(stream: openai.Stream[ChatCompletionChunk], after: str) -> str:
    """Reads a stream up to a text, and returns that."""
    text = ""
    while text != after:
        text += text_of([next(stream)])
    return text


@pytest.mark.parametrize("after", ["H", "Hell", "Hello t", "Hello there"])
def test_an_answer_that_is_held_in_the_middle(
    models: ModelServer, client: openai.OpenAI, after: str
) -> None:
    step = Hold(Answer("Hello there"), after=after)
    stream = ask(client, models.script(step))
    text = read_until(stream, after)
    assert step.held.wait(SECONDS)
    step.release()
    assert text + text_of(list(stream)) == "Hello there"
    assert not step.disconnected.is_set()


@pytest.mark.parametrize("step", [Answer("late"), Fail(500, "late")])
async def test_an_answer_that_is_held_ahead_of_its_first_byte(
    models: ModelServer, step: Step
) -> None:
    held = Hold(step)
    model = models.script(held)
    async with openai.AsyncOpenAI(
        base_url=models.base_url, api_key="test", max_retries=0
    ) as client:
        request = asyncio.create_task(_ask(client, model))
        assert await asyncio.to_thread(held.held.wait, SECONDS)
        assert not request.done()
        held.release()
        assert await request == "late"


async def _ask(client: openai.AsyncOpenAI, model: str) -> str:
    try:
        stream = await client.chat.completions.create(model=model, messages=[], stream=True)
        return text_of([chunk async for chunk in stream])
    except openai.InternalServerError as error:
        assert isinstance(error.body, dict)
        return str(error.body["message"])


@pytest.mark.parametrize("after", ["", "Hel"])
def test_a_client_that_goes_away_is_noticed(
    models: ModelServer, client: openai.OpenAI, after: str
) -> None:
    step = Hold(Answer("Hello there"), after=after)
    stream = ask(client, models.script(step))
    read_until(stream, after)
    stream.close()
    assert step.disconnected.wait(SECONDS)


def test_a_script_that_has_ended_is_a_problem(models: ModelServer, client: openai.OpenAI) -> None:
    model = models.script(Answer("one"))
    list(ask(client, model))
    with pytest.raises(openai.InternalServerError, match="has ended"):
        ask(client, model)
    with pytest.raises(openai.NotFoundError, match="unknown model"):
        ask(client, "gpt-x")
    with pytest.raises(openai.BadRequestError, match="only streams"):
        client.chat.completions.create(model=model, messages=[])
    assert len(models.problems) == 3
    models.problems.clear()


def test_models_are_listed(models: ModelServer, client: openai.OpenAI) -> None:
    model = models.script()
    assert model in [each.id for each in client.models.list()]


def test_tokenizers(models: ModelServer, client: openai.OpenAI) -> None:
    url = models.base_url.removesuffix("/v1") + "/tokenize"
    text = {"content": "a b c", "prompt": "d e"}
    llama, vllm = models.script(tokenizer="llama.cpp"), models.script(tokenizer="vllm")
    assert client.post(url, body=text | {"model": llama}, cast_to=object) == {"tokens": [0, 1, 2]}
    counted = {"tokens": [0, 1], "count": 2, "max_model_len": 4096}
    assert client.post(url, body=text | {"model": vllm}, cast_to=object) == counted
    assert (models.tokenized(llama), models.tokenized(vllm)) == (["a b c"], ["d e"])
    with pytest.raises(openai.NotFoundError):
        client.post(url, body=text | {"model": models.script()}, cast_to=object)
