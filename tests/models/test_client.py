"""The model client: what it sends, what it makes of failures, and how it is broken off."""

import asyncio
import datetime
import email.utils
import json
from contextlib import aclosing
from typing import Any

import pytest

from service.models.client import CallDelta, ChatModel, Chunk, Finished, ModelError, TextDelta
from tests.models.conftest import KEY
from tests.support.model_server import ModelServer
from tests.support.models.raw_server import SILENCE, RawServer, choice, events
from tests.support.script import Answer, BreakOff, Calls, Fail, Hold, Step

SECONDS = 30
"""How long to wait for what must happen."""


def request(model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


async def answer(model: ChatModel, request: dict[str, Any]) -> list[Chunk]:
    return [chunk async for chunks in model.stream(request) for chunk in chunks]


async def error_of(model: ChatModel, request: dict[str, Any]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await answer(model, request)
    return caught.value


async def failure(model: ChatModel, request: dict[str, Any]) -> tuple[str, str]:
    error = await error_of(model, request)
    return error.code, error.message


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


async def test_answer(models: ModelServer, model: ChatModel) -> None:
    chunks = await answer(model, request(models.script(Answer("Hello, you there!"))))
    assert text_of(chunks) == "Hello, you there!"
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    assert chunks[-1] == Finished("stop", usage)


async def test_the_request_is_passed_on_as_it_is(models: ModelServer, model: ChatModel) -> None:
    name = models.script(Answer("x"))
    asked = request(name, temperature=0.5, tools=[{"type": "function"}], some_extension={"a": [1]})
    await answer(model, asked)
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert models.requests(name) == [asked | streaming]


async def test_calls(models: ModelServer, model: ChatModel) -> None:
    name = models.script(Calls(("f", {"x": 1}), ("g", {}), text="Wait."))
    chunks = await answer(model, request(name))
    assert text_of(chunks) == "Wait."
    pieces = [chunk for chunk in chunks if isinstance(chunk, CallDelta)]
    assert [(p.index, p.id, p.name) for p in pieces if p.name] == [
        (0, "call_0", "f"),
        (1, "call_1", "g"),
    ]
    assert json.loads("".join(p.arguments for p in pieces if p.index == 0)) == {"x": 1}
    assert isinstance(chunks[-1], Finished)
    assert chunks[-1].reason == "tool_calls"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_prompt"),
        (422, "invalid_prompt"),
        (404, "server_error"),
        (413, "server_error"),
    ],
)
async def test_refused_requests(
    models: ModelServer, model: ChatModel, status: int, code: str
) -> None:
    name = models.script(Fail(status, "Not like this."))
    assert await failure(model, request(name)) == (code, "Not like this.")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_not_shown(
    models: ModelServer, model: ChatModel, status: int
) -> None:
    name = models.script(Fail(status, f"Incorrect API key provided: {KEY}."))
    message = "The model server refuses this server's API key."
    assert await failure(model, request(name)) == ("server_error", message)


async def test_neither_urls_nor_keys_are_shown(models: ModelServer, model: ChatModel) -> None:
    name = models.script(Fail(400, f"See http://10.0.0.1/v1?key={KEY}\nor ask {KEY}."))
    assert await failure(model, request(name)) == ("invalid_prompt", "See [URL] or ask [key].")


@pytest.mark.parametrize(
    ("status", "error_code", "code", "retryable"),
    [
        (400, None, "invalid_prompt", False),
        (401, None, "server_error", False),
        (404, None, "server_error", False),
        (408, None, "server_error", True),
        (409, None, "server_error", True),
        (422, None, "invalid_prompt", False),
        (429, None, "rate_limit_exceeded", True),
        (429, "rate_limit_exceeded", "rate_limit_exceeded", True),
        (429, "insufficient_quota", "rate_limit_exceeded", False),
        (500, None, "server_error", True),
        (503, None, "server_error", True),
        (529, None, "server_error", True),
    ],
)
async def test_what_may_be_tried_again(
    models: ModelServer,
    model: ChatModel,
    status: int,
    error_code: str | None,
    code: str,
    retryable: bool,
) -> None:
    name = models.script(Fail(status, "Not now.", error_code))
    error = await error_of(model, request(name))
    assert (error.code, error.retryable, error.retry_after) == (code, retryable, None)
    # Trying again is for the run engine.
    assert len(models.requests(name)) == 1


@pytest.mark.parametrize(
    ("message", "context"),
    [
        ("This model's maximum context length is 8192 tokens. However, you requested 9001 tokens"
         " (8001 in the messages, 1000 in the completion).", 8192),
        ("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in"
         " 300001 tokens. Please reduce the length of the messages.", 272000),
        ("However, the model's context length is only 4096 tokens, resulting in", 4096),
        ("The decoder prompt (length 9) is longer than the maximum model length of 2048.", 2048),
        ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096),
        ("The context is too long.", None),
        ("The context length is 12.", None),
        ("Expected a string of length 300.", None),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_context(
    models: ModelServer, model: ChatModel, message: str, context: int | None
) -> None:
    name = models.script(Fail(400, message), Fail(500, message))
    for expected in (context, None):
        assert (await error_of(model, request(name))).context == expected
    assert model.tokens.context(name) == context
    assert model.tokens.context("another") is None


@pytest.mark.parametrize(
    ("n_ctx", "context"), [(4096, 4096), (True, None), ("4096", None), (7, None), (None, None)]
)
async def test_a_refusal_names_the_context_in_a_field(
    raw: RawServer, odd_model: ChatModel, n_ctx: object, context: int | None
) -> None:
    error = {"code": 400, "message": "Too long.", "type": "exceed_context_size_error"}
    body = json.dumps({"error": error | {"n_prompt_tokens": 9000, "n_ctx": n_ctx}}).encode()
    raw.answer(b"HTTP/1.1 400 Bad\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert (await error_of(odd_model, request())).context == context
    assert odd_model.tokens.context("m") == context


async def test_options_go_along_with_every_request(models: ModelServer) -> None:
    model = ChatModel(models.base_url, KEY, idle_timeout=60, options={"return_progress": True})
    name = models.script(Answer("x"))
    await answer(model, request(name))
    assert models.requests(name)[0]["return_progress"] is True
    await model.close()


async def test_how_long_to_wait(models: ModelServer, model: ChatModel) -> None:
    error = await error_of(model, request(models.script(Fail(429, retry_after=7))))
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ("retry-after: 0", 0),
        ("Retry-After: 1.5", 1.5),
        ("retry-after-ms: 1500", 1.5),
        ("retry-after: 2\r\nretry-after-ms: 1500", 1.5),
        ("retry-after: 2\r\nretry-after-ms: soon", 2),
        ("retry-after: Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("retry-after: Fri, 01 Jan 9999 00:00:00 GMT", None),
        ("retry-after: Fri, 99 Jan 9999", None),
        ("retry-after: soon", None),
        ("retry-after: -1", None),
        ("retry-after: nan", None),
        ("retry-after: inf", None),
        ("retry-after: 1e9", None),
        ("retry-after:", None),
    ],
)
async def test_headers_that_ask_to_wait(
    raw: RawServer, odd_model: ChatModel, headers: str, seconds: float | None
) -> None:
    raw.answer(f"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n{headers}\r\n\r\n".encode())
    error = await error_of(odd_model, request())
    assert (error.retryable, error.retry_after) == (True, seconds)


async def test_a_date_to_wait_for(raw: RawServer, odd_model: ChatModel) -> None:
    now = datetime.datetime.now(datetime.UTC)
    date = email.utils.format_datetime(now + datetime.timedelta(hours=1), usegmt=True)
    raw.answer(f"HTTP/1.1 429 Busy\r\ncontent-length: 0\r\nretry-after: {date}\r\n\r\n".encode())
    error = await error_of(odd_model, request())
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 3600


@pytest.mark.parametrize(
    "step", [BreakOff("So f"), BreakOff("So f", politely=True), BreakOff("", politely=True)]
)
async def test_broken_off(models: ModelServer, model: ChatModel, step: Step) -> None:
    error = await error_of(model, request(models.script(step)))
    assert (error.code, error.retryable) == ("server_error", True)
    assert "broke" in error.message or "connection" in error.message


async def test_nothing_listens_at_the_address() -> None:
    model = ChatModel("http://127.0.0.1:1/v1", KEY, idle_timeout=60)
    error = await error_of(model, request())
    await model.close()
    assert (error.code, error.retryable) == ("server_error", True)
    assert error.message == "The connection to the model server failed."


@pytest.mark.parametrize("after", [None, "Hel"])
async def test_closing_stops_the_model(
    models: ModelServer, model: ChatModel, after: str | None
) -> None:
    step = Hold(Answer("Hello"), after)
    task = asyncio.create_task(answer(model, request(models.script(step))))
    assert await asyncio.to_thread(step.held.wait, SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(step.disconnected.wait, SECONDS)


async def test_closing_the_generator_stops_the_model(models: ModelServer, model: ChatModel) -> None:
    step = Hold(Answer("Hello"), "Hell")
    async with aclosing(model.stream(request(models.script(step)))) as chunks:
        assert await anext(chunks) == [TextDelta("Hell")]
    assert await asyncio.to_thread(step.disconnected.wait, SECONDS)


@pytest.mark.parametrize(
    "sent", [(), (events(),), (events(choice(content="x")),)], ids=["all", "head", "text"]
)
async def test_silence(raw: RawServer, odd_model: ChatModel, sent: tuple[bytes, ...]) -> None:
    raw.answer(*sent, SILENCE)
    error = await error_of(odd_model, request())
    assert (error.code, error.retryable) == ("server_error", True)
    assert error.message == "The model server was silent for 0.5 seconds."
    await asyncio.wait_for(raw.disconnected.wait(), SECONDS)
    assert len(raw.requests) == 1


async def test_silence_after_the_end_costs_the_usage_only(
    raw: RawServer, odd_model: ChatModel
) -> None:
    raw.answer(events(choice(content="x"), choice("stop")), SILENCE)
    assert await answer(odd_model, request()) == [TextDelta("x"), Finished("stop", None)]


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ({}, "server_error", True),
        ({"code": 500}, "server_error", True),
        ({"code": 429}, "rate_limit_exceeded", True),
        ({"code": 400}, "invalid_prompt", False),
        ({"code": "insufficient_quota"}, "server_error", False),
        ({"code": "overloaded", "type": "server_error"}, "server_error", True),
        ({"code": "too_long", "type": "invalid_request_error"}, "invalid_prompt", False),
    ],
)
async def test_error_event(
    raw: RawServer, odd_model: ChatModel, error: dict[str, Any], code: str, retryable: bool
) -> None:
    raw.answer(events(choice(content="x"), {"error": {"message": "Out of memory."} | error}))
    caught = await error_of(odd_model, request())
    assert (caught.code, caught.message) == (code, "Out of memory.")
    assert caught.retryable is retryable


@pytest.mark.parametrize(
    "body",
    [
        events("{"),
        events("[]"),
        events("[" * 100_000 + "]" * 100_000),
        events(choice(content="x"), "\ufeff"),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: \xff\n\n",
    ],
)
async def test_no_answer_at_all(raw: RawServer, odd_model: ChatModel, body: bytes) -> None:
    raw.answer(body)
    error = await error_of(odd_model, request())
    assert error.code == "server_error"
    assert error.message == "The model server sent something that is no answer."


def typed(content_type: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n".encode() + body


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ("Out of memory.", "server_error", True),
        ({"message": "Out of memory.", "code": 429}, "rate_limit_exceeded", True),
        ({"message": "Out of memory.", "code": 400}, "invalid_prompt", False),
    ],
)
async def test_an_error_in_place_of_a_stream(
    raw: RawServer,
    odd_model: ChatModel,
    content_type: str,
    error: object,
    code: str,
    retryable: bool,
) -> None:
    raw.answer(typed(content_type, json.dumps({"error": error}).encode()))
    caught = await error_of(odd_model, request())
    assert (caught.code, caught.message) == (code, "Out of memory.")
    assert caught.retryable is retryable


@pytest.mark.parametrize(
    "answer",
    [
        typed("text/html; charset=utf-8", b"<html>Welcome</html>"),
        typed("application/json", b'{"object": "chat.completion", "choices": []}'),
        typed("application/json", b'{"error": null}'),
        typed("application/json", b"[]"),
        typed("application/json", b"\xff"),
        typed("application/json", b"[" * 100_000),
        typed("application/json", b""),
        typed("application/json\r\ncontent-length: 9", b"{"),
    ],
)
async def test_no_stream(raw: RawServer, odd_model: ChatModel, answer: bytes) -> None:
    raw.answer(answer)
    error = await error_of(odd_model, request())
    assert (error.code, error.retryable) == ("server_error", False)
    assert error.message == "The model server did not answer with a stream."


@pytest.mark.parametrize("head", ["x-a: b", "content-type: text/plain", "content-type:"])
async def test_a_stream_without_its_type(raw: RawServer, odd_model: ChatModel, head: str) -> None:
    stream = events(choice(content="x"), choice("stop"))
    raw.answer(stream.replace(b"content-type: text/event-stream", head.encode()))
    assert await answer(odd_model, request()) == [TextDelta("x"), Finished("stop", None)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "model not loaded"}', "model not loaded"),
        (b'{"detail": "model not loaded"}', "model not loaded"),
        (b'{"error": "not \\ud83d\\u0000loaded"}', "not \ufffd\ufffdloaded"),
        (b'{"object": "error", "message": "model not loaded"}', "model not loaded"),
        (b"<html>404</html>", "The model server answered 404."),
        (b"", "The model server answered 404."),
        (b"[]", "The model server answered 404."),
    ],
)
async def test_error_bodies(
    raw: RawServer, odd_model: ChatModel, body: bytes, message: str
) -> None:
    raw.answer(b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert await failure(odd_model, request()) == ("server_error", message)


async def test_broken_protocol(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(b"SSH-2.0-OpenSSH_9.2\r\n")
    code, message = await failure(odd_model, request())
    assert (code, message) == ("server_error", "The connection to the model server failed.")


async def test_no_proxy_to_this_machine(
    models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    model = ChatModel(models.base_url, KEY, idle_timeout=60)
    assert text_of(await answer(model, request(models.script(Answer("Here."))))) == "Here."
    await model.close()
