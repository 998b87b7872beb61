"""The model server of the bench: as fast as a model can be, and scripted by the name of the model.

`instant-8` sends 8 pieces at once, `paced-50-200` sends 50 pieces with 200 ms before each, and
`silent` accepts the request and never says anything. `stamped-50-200` is `paced-50-200`, but each
piece is the time when it was sent, in nanoseconds of the machine's monotonic clock. It runs as a
process of its own, so that what it takes is not counted as the server's.

    python -m bench.model    # prints its base URL; ends when its standard input does
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import ClassVar, Final, cast

import orjson
import uvloop

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MODEL: Final = re.compile(rb'"model" *: *"([^"]*)"')
COMPLETIONS: Final = b"POST /v1/chat/completions "
OPEN: Final = b"GET /open "
STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
PIECE: Final = "word "
"""What each piece of an answer says."""


@cache
def script(model: str) -> tuple[float, bytes, tuple[bytes, ...], bytes]:
    """Returns what a model does: seconds before each piece, its head, the pieces, and its end."""
    kind, *numbers = model.split("-")
    head = STREAM + _event(model, {"role": "assistant", "content": ""})
    if kind == "silent":
        return 0.0, head, (), b""
    count, pause = int(numbers[0]), int(numbers[1]) / 1000 if len(numbers) > 1 else 0.0
    end = _event(model, {}, "stop") + _usage(model, count) + _chunk(b"[DONE]") + b"0\r\n\r\n"
    return pause, head, (_event(model, {"content": PIECE}),) * count, end


def _stamped(model: str, count: int) -> Iterator[bytes]:
    """Makes each piece when it is sent."""
    for _ in range(count):
        yield _event(model, {"content": f"{time.monotonic_ns()} "})


def _event(model: str, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _chunk(orjson.dumps(_head(model) | {"choices": [choice]}))


def _usage(model: str, tokens: int) -> bytes:
    usage = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
    return _chunk(orjson.dumps(_head(model) | {"choices": [], "usage": usage}))


def _head(model: str) -> dict[str, object]:
    kind = "chat.completion.chunk"
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model}


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


class Connection(asyncio.Protocol):
    """One client's connection, which carries one request after the other."""

    answering: ClassVar[set["Connection"]] = set()
    """Those that a completion is being sent on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection."""
        # uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the answer."""
        self.answering.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete."""
        self._received += data
        while request := self._request():
            self._answer(request)

    def _request(self) -> bytes | None:
        """Takes a whole request out of what was received, if there is one."""
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        length = LENGTH.search(self._received, 0, head_end)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return None
        request = bytes(self._received[:end])
        del self._received[:end]
        return request

    def _answer(self, request: bytes) -> None:
        if request.startswith(COMPLETIONS) and (model := MODEL.search(request)):
            self._complete(model[1].decode())
        elif request.startswith(OPEN):
            self._send_json(200, {"open": len(self.answering)})
        else:
            # Such as the question for a tokenizer.
            error = {"message": "Not Found", "type": "error", "param": None, "code": None}
            self._send_json(404, {"error": error})

    def _send_json(self, status: int, value: object) -> None:
        body = orjson.dumps(value)
        head = f"HTTP/1.1 {status} Bench\r\ncontent-type: application/json\r\n"
        self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def _complete(self, model: str) -> None:
        pause, head, pieces, end = script(model)
        if not pause and end:
            self._transport.write(head + b"".join(pieces) + end)
            return
        self.answering.add(self)
        self._transport.write(head)
        if end:
            sent = _stamped(model, len(pieces)) if model.startswith("stamped-") else iter(pieces)
            self._go_on(sent, end, self._loop.time() + pause, pause)

    def _go_on(self, pieces: Iterator[bytes], end: bytes, when: float, pause: float) -> None:
        """Sends the next piece at `when`, by the loop's clock, and so on to the end."""

        def send() -> None:
            if (piece := next(pieces, None)) is not None:
                self._transport.write(piece)
                # By the clock, so that a late piece does not make all others late.
                self._go_on(pieces, end, when + pause, pause)
            else:
                self.answering.discard(self)
                self._transport.write(end)

        self._timer = self._loop.call_at(when, send)


async def main() -> None:
    """Serves until the standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}/v1", flush=True)
    with contextlib.closing(server):
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
