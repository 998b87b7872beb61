"""How requests go out, and connections that are kept."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest

from service.models.client import ChatModel, Finished, ModelError, TextDelta
from tests.models.conftest import KEY, serving
from tests.models.test_client import SECONDS, answer, error_of, failure, request
from tests.support.models.raw_server import RawServer, choice, events, whole

STREAM = events(choice(content="x"), choice("stop"), "[DONE]")


class ClosingServer:
    """Answers so many requests on each connection, and closes it at the next one."""

    def __init__(self) -> None:
        self.answers = 1
        self.connections: list[int] = []
        """The requests of each connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        number = len(self.connections)
        self.connections.append(0)
        head, _, body = STREAM.partition(b"\r\n\r\n")
        try:
            while self.connections[number] <= self.answers:
                asked = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(asked.partition("content-length: ")[2].split()[0]))
                self.connections[number] += 1
                if self.connections[number] <= self.answers:
                    length = f"\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                    writer.write(head + length + body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def closing() -> AsyncIterator[tuple[ClosingServer, ChatModel]]:
    """A server that closes connections, and its client."""
    closing = ClosingServer()
    async with serving(closing.serve) as model:
        yield closing, model


async def test_a_connection_that_was_kept_and_is_gone(
    closing: tuple[ClosingServer, ChatModel],
) -> None:
    server, model = closing
    for _ in range(3):
        assert await answer(model, request()) == [TextDelta("x"), Finished("stop", None)]
    assert server.connections == [2, 2, 1]


async def test_a_new_connection_that_is_closed(closing: tuple[ClosingServer, ChatModel]) -> None:
    server, model = closing
    server.answers = 0
    message = "The connection to the model server failed."
    assert await failure(model, request()) == ("server_error", message)
    assert server.connections == [1]


ANSWER = [TextDelta("x"), Finished("stop", None)]
WHOLE = whole(STREAM.partition(b"\r\n\r\n")[2], "content-type: text/event-stream")
LONG = request(padding="x" * 2**24)
"""More than any buffer on the way holds."""


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length: ")[2].split()[0])
    return head, await reader.readexactly(length)


async def test_what_goes_out(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(WHOLE)
    assert await answer(odd_model, request(stop="\u00fc\ud83d", seed=2**70)) == ANSWER
    head, _, body = raw.requests[0].partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    assert first == "POST /v1/chat/completions HTTP/1.1"
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept"] == headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("assistants/")
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert json.loads(body) == request(stop="\u00fc\ud83d", seed=2**70) | streaming


async def test_credentials_in_the_address(raw: RawServer) -> None:
    raw.answer(WHOLE)
    model = ChatModel(f"http://us%40er:wo%3Ard@127.0.0.1:{raw.port}/v1/", KEY, idle_timeout=60)
    assert await answer(model, request()) == ANSWER
    await model.close()
    word = base64.b64encode(b"us@er:wo:rd").decode()
    assert f"\r\nauthorization: basic {word}\r\n".lower() in raw.requests[0].lower()
    assert f"\r\nHost: 127.0.0.1:{raw.port}\r\n" in raw.requests[0]


async def test_credentials_that_a_server_repeats(raw: RawServer) -> None:
    word = base64.b64encode(b"user:pass-word").decode()
    raw.answer(whole(f"No pass-word, Basic {word} or {KEY}.".encode(), status=400))
    model = ChatModel(f"http://user:pass-word@127.0.0.1:{raw.port}/v1", KEY, idle_timeout=60)
    with pytest.raises(ModelError) as refused:
        await answer(model, request())
    await model.close()
    assert refused.value.message == "No [key], Basic [key] or [key]."


@pytest.mark.parametrize("status", [307, 308])
async def test_a_server_that_is_elsewhere(
    raw: RawServer, odd_model: ChatModel, status: int
) -> None:
    raw.answer(whole(b"Moved.", "location: /v2/chat", status=status))
    raw.answer(WHOLE)
    assert await answer(odd_model, request()) == ANSWER
    first, second = raw.requests
    assert second.startswith("POST /v2/chat HTTP/1.1\r\n")
    assert f"\r\nauthorization: bearer {KEY}\r\n" in second.lower()
    assert first.partition("\r\n\r\n")[2] == second.partition("\r\n\r\n")[2]


async def test_the_key_is_for_one_server(raw: RawServer, odd_model: ChatModel) -> None:
    there = f"http://localhost:{raw.port}/v1/chat/completions"
    raw.answer(whole(b"", f"location: {there}", status=307))
    raw.answer(WHOLE)
    assert await answer(odd_model, request()) == ANSWER
    assert KEY in raw.requests[0]
    assert KEY not in raw.requests[1]


async def test_a_server_that_is_nowhere(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(whole(b"", "location: /v1/chat/completions", status=307))
    message = "The connection to the model server failed."
    assert await failure(odd_model, request()) == ("server_error", message)
    assert len(raw.requests) < 30


async def test_a_long_head(raw: RawServer, odd_model: ChatModel) -> None:
    lines = ["x-policy: " + "x" * 30_000, *[f"x-{number}: x" for number in range(300)]]
    raw.answer(whole(STREAM.partition(b"\r\n\r\n")[2], *lines))
    assert await answer(odd_model, request()) == ANSWER


async def test_cookies(raw: RawServer, odd_model: ChatModel) -> None:
    """By which some that stand before several servers lead a client to one of them."""
    raw.answer(whole(STREAM.partition(b"\r\n\r\n")[2], "set-cookie: route=3"))
    for _ in range(2):
        assert await answer(odd_model, request()) == ANSWER
    assert "\r\ncookie: route=3\r\n" in raw.requests[1].lower()


async def test_connections_are_kept() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while not reader.at_eof():
            await read_request(reader)
            writer.write(WHOLE if connections == 1 else STREAM)

    async with serving(serve) as model:
        for _ in range(5):
            assert await answer(model, request()) == ANSWER
    assert connections == 1


async def test_an_answer_to_nothing_is_not_taken_for_one() -> None:
    """A connection on which a server has sent more than was asked for is not used again."""
    connections = 0
    unasked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(WHOLE)
        if connections == 1:
            await unasked.wait()
            writer.write(whole(b"", status=408))
            unasked.clear()
            await reader.read()
        writer.close()

    async with serving(serve) as model:
        assert await answer(model, request()) == ANSWER
        unasked.set()
        while unasked.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert await answer(model, request()) == ANSWER
    assert connections == 2


async def test_a_long_request(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(WHOLE)
    assert await answer(odd_model, LONG) == ANSWER
    assert json.loads(raw.requests[0].partition("\r\n\r\n")[2])["padding"] == LONG["padding"]


async def test_a_server_that_takes_a_long_request_slowly() -> None:
    """It is not silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        left = int(head.partition("content-length: ")[2].split()[0])
        # What lies in buffers was sent, and the rest of the time is for the answer.
        while left > 2**23:
            await reader.readexactly(2**16)
            left -= 2**16
            await asyncio.sleep(0.01)
        await reader.readexactly(left)
        writer.write(WHOLE)

    async with serving(serve, idle_timeout=0.5) as model:
        assert await answer(model, LONG) == ANSWER


async def test_a_server_that_does_not_take_a_long_request() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()
            closed.set()

    async with serving(serve, idle_timeout=0.5) as model:
        error = await error_of(model, LONG)
        assert error.retryable
        assert error.message == "The model server was silent for 0.5 seconds."


async def test_a_long_request_that_is_refused_at_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(b'{"error": "Too large."}', "connection: close", status=413))
        await writer.drain()
        # Its side only, as servers do that want their answer to arrive.
        writer.write_eof()
        while await reader.read(2**20):
            pass
        writer.close()

    async with serving(serve) as model:
        error = await error_of(model, LONG)
    assert (error.code, error.message, error.retryable) == ("server_error", "Too large.", False)


async def test_a_long_request_that_is_given_up() -> None:
    """Closing ends the connection, whatever of the request was not taken."""
    begun, reading, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await reading.wait()
        try:
            while await reader.read(2**20):
                pass
        except ConnectionError:
            pass
        ended.set()
        writer.close()

    async with serving(serve) as model:
        task = asyncio.create_task(answer(model, LONG))
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        reading.set()
        async with asyncio.timeout(SECONDS):
            await ended.wait()
