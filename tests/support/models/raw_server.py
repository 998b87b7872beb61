"""An HTTP server that sends the very bytes it is given: for answers that no decent server gives."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SILENCE = b""
"""In an answer: nothing more comes, but the connection stays open."""


def events(*data: dict[str, Any] | str) -> bytes:
    """Returns the head and SSE events of an answer; the end of the connection is its end."""
    lines = [f"data: {x if isinstance(x, str) else json.dumps(x)}\n\n" for x in data]
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + "".join(lines).encode()


def whole(body: bytes, *headers: str, status: int = 200) -> bytes:
    """Returns an answer that says where it ends, and so leaves the connection to further ones."""
    lines = [f"HTTP/1.1 {status} .", *headers, f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def choice(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """Returns a chunk of one choice."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


class RawServer:
    """Gives each request the next answer, the last one again and again, and closes."""

    def __init__(self) -> None:
        self.base_url = ""
        self.port = 0
        self.answers: list[tuple[bytes, ...]] = []
        self.requests: list[str] = []
        """Heads and bodies as received."""
        self.disconnected = asyncio.Event()

    def answer(self, *parts: bytes) -> None:
        """Adds an answer, sent part by part."""
        self.answers.append(parts)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                int(line.split(":")[1])
                for line in head.lower().splitlines()
                if line.startswith("content-length")
            )
            self.requests.append(head + (await reader.readexactly(length)).decode())
            for part in self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]:
                if part == SILENCE:
                    await reader.read(1)
                    self.disconnected.set()
                writer.write(part)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Runs one on a free port."""
    raw = RawServer()
    async with await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls) as server:
        raw.port = server.sockets[0].getsockname()[1]
        raw.base_url = f"{'https' if tls else 'http'}://127.0.0.1:{raw.port}/v1"
        yield raw
