"""Readers of streams: hundreds at once, some that are slow, many that go away."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

import openai
import pytest

from tests.support.hostile.http1 import Connection, ask, check_up, head
from tests.support.hostile.processes import files, memory
from tests.support.long import MIB, Long
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS, until

STREAMS = 300


@pytest.fixture(scope="module")
def crowded() -> Iterator[tuple[Stack, ModelServer]]:
    """A server of its own, which works on four runs at once: the others wait."""
    models = ModelServer().start()
    env = {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_WORKER_CONCURRENCY": "4",
        "ASSISTANTS_SHUTDOWN_GRACE": "0",
        "ASSISTANTS_LOG_LEVEL": "warning",
    }
    with serving(env) as stack:
        yield stack, models
    models.stop()


def _assistant(server: Stack, model: str) -> str:
    body = json.dumps({"model": model}).encode()
    return str(ask(server, "POST", "/v1/assistants", body).body["id"])


def _request(assistant: str) -> bytes:
    thread = {"messages": [{"role": "user", "content": "Hello"}]}
    body = json.dumps({"assistant_id": assistant, "thread": thread, "stream": True}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return head("POST", "/v1/threads/runs", headers) + body


@dataclass
class Reader:
    """A stream that is open, read up to some point."""

    reader: asyncio.StreamReader
    data: bytearray = field(default_factory=bytearray)

    async def until(self, text: bytes) -> None:
        """Reads on until the text has come."""
        async with asyncio.timeout(SECONDS):
            while text not in self.data:
                piece = await self.reader.read(65_536)
                assert piece, f"the stream just stops: {bytes(self.data[-500:])!r}"
                self.data += piece


@asynccontextmanager
async def _stream(server: Stack, assistant: str, text: bytes) -> AsyncIterator[Reader]:
    """Starts a run and reads its events until the text has come."""
    host, _, port = server.env["ASSISTANTS_HTTP_ADDRESS"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(_request(assistant))
        opened = Reader(reader)
        await opened.until(text)
        yield opened
    finally:
        # No farewell: whoever goes away like this has crashed, or has lost its network.
        writer.transport.abort()


def test_a_slow_reader_slows_only_itself(crowded: tuple[Stack, ModelServer]) -> None:
    server, models = crowded
    # More than all buffers on the way, but less than the server keeps of all together.
    long = Long(4)
    slow_one = _assistant(server, models.script(*[long] * 5))
    quick_one = _assistant(server, models.script(*[Answer("Hello.")] * 5))
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        # What one such answer takes on its way is taken once, and not counted.
        _check_whole(_rest(_stuck(server, slow_one)), long)
        used = memory(server)
        slow = [_stuck(server, slow_one) for _ in range(3)]
        # Their runs go on to their ends, and so do other runs of which all is read.
        for _ in range(5):
            events = client.beta.threads.create_and_run(assistant_id=quick_one, stream=True)
            assert [event.event for event in events][-1] == "thread.run.completed"
        _check_whole(_rest(_stuck(server, slow_one)), long)
        grown = [now - then for now, then in zip(memory(server), used, strict=True)]
        assert max(grown) < 100 * MIB, grown
        # Who was slow got everything.
        for connection in slow:
            _check_whole(_rest(connection), long)


def _stuck(server: Stack, assistant: str) -> Connection:
    """Starts a run whose stream has begun, and is not read yet."""
    connection = Connection(server, receive_buffer=262_144)
    connection.send(_request(assistant))
    assert connection.socket.recv(16, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
    return connection


def _rest(connection: Connection) -> bytes:
    """Reads a stuck stream; fails if it breaks off."""
    with connection:
        return connection.read("POST").data


def _check_whole(data: bytes, long: Long) -> None:
    texts = []
    for event in data.split(b"\n\n"):
        name, _, rest = event.partition(b"\n")
        if name == b"event: thread.message.delta":
            [part] = json.loads(rest.removeprefix(b"data: "))["delta"]["content"]
            texts.append(part["text"]["value"])
    assert [text[:8] for text in texts] == [f"{number:08}" for number in range(long.chunks)]
    assert data.rstrip().endswith(b"event: done\ndata: [DONE]")


async def test_hundreds_of_streams_at_once(crowded: tuple[Stack, ModelServer]) -> None:
    server, models = crowded
    first = [Hold(Answer("Hello there."), after="Hello") for _ in range(4)]
    assistant = _assistant(server, models.script(*first, *[Hold(Answer(""))] * (STREAMS - 4)))
    before, used = files(server), memory(server)
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(STREAMS // 50):
            opening = [_stream(server, assistant, b"thread.run.queued") for _ in range(50)]
            streams += await asyncio.gather(*map(stack.enter_async_context, opening))
        assert len(streams) == STREAMS
        await asyncio.to_thread(check_up, server)
        grown = [now - then for now, then in zip(memory(server), used, strict=True)]
        assert max(grown) < 150 * MIB, grown
        # Those whose turn it is get it as ever.
        for hold in first:
            hold.release()
        reading = [asyncio.create_task(stream.until(b"[DONE]")) for stream in streams]
        for ended in islice(asyncio.as_completed(reading), 4):
            await ended
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        assert sum(b"event: thread.run.completed" in stream.data for stream in streams) == 4
    await until(lambda: _not_above(files(server), before))


async def test_readers_that_go_away_leave_nothing(crowded: tuple[Stack, ModelServer]) -> None:
    server, models = crowded
    assistant = _assistant(server, models.script(*[Hold(Answer(""))] * 200))
    before = files(server)
    for _ in range(2):
        async with AsyncExitStack() as stack:
            opening = [_stream(server, assistant, b"thread.run.queued") for _ in range(100)]
            await asyncio.gather(*map(stack.enter_async_context, opening))
            # Each is a connection of Envoy's; others may still be closing.
            assert files(server)[1] >= 100
        await until(lambda: _not_above(files(server), before))
    await asyncio.to_thread(check_up, server)


def _not_above(now: list[int], before: list[int]) -> bool:
    # The model's connections are kept open for a while: no more than there are runs at once.
    return all(after <= then + 20 for after, then in zip(now, before, strict=True))
