"""Connections that a model server closes while the client keeps them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.models.client import ChatModel, Finished, TextDelta
from tests.models.raw_server import choice, events
from tests.models.test_client import answer, failure, request

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
    async with await asyncio.start_server(closing.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        model = ChatModel(f"http://127.0.0.1:{port}/v1", "none", idle_timeout=60)
        yield closing, model
        await model.close()


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
    said = "The connection to the model server failed."
    assert await failure(model, request()) == ("server_error", said)
    assert server.connections == [1]
