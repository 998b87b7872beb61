"""The wire between OpenAI's client and the server: it keeps and checks all that comes back.

Every answer is checked against the published schemas, and every stream also for what holds for all
of them, whatever a test looks at. Nothing is changed on the way.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx2

from tests.rest.streams import check_stream
from tests.schemas import document, validate, validate_event, validate_response

_EVENT = re.compile(r"event: (.+)\ndata: (.+)")

Event = tuple[str, Any]
"""An event's name and its data: parsed, or `[DONE]`."""


@dataclass
class Exchange:
    """A request and its response; `body` is JSON, `events` is what a stream has sent so far."""

    operation: str
    status: int
    body: Any = None
    events: list[Event] = field(default_factory=list)
    whole: bool = False
    """Whether the client has read it to its end."""


class Wire:
    """All exchanges of one client, in order, and what was wrong with them."""

    def __init__(self) -> None:
        """Nothing has been exchanged yet."""
        self.exchanges: list[Exchange] = []
        self.problems: list[str] = []

    @property
    def last(self) -> Exchange:
        """The latest exchange."""
        return self.exchanges[-1]

    @property
    def event_names(self) -> list[str]:
        """The names of the events of the latest exchange."""
        return [name for name, _ in self.last.events]

    def operations(self) -> set[str]:
        """The names of the operations that were answered with 200."""
        return {exchange.operation for exchange in self.exchanges if exchange.status == 200}

    def sync_transport(self) -> httpx2.BaseTransport:
        """Returns a transport for a client."""
        return _Transport(self)

    def async_transport(self) -> httpx2.AsyncBaseTransport:
        """Returns a transport for an asynchronous client."""
        return _AsyncTransport(self)

    def begin(self, request: httpx2.Request, response: httpx2.Response) -> "Reader":
        """Takes the head of a response; the reader takes the rest."""
        exchange = Exchange(_operation_id(request), response.status_code)
        self.exchanges.append(exchange)
        return Reader(self, exchange, request, response)


class Reader:
    """Reads the body of one response."""

    def __init__(
        self, wire: Wire, exchange: Exchange, request: httpx2.Request, response: httpx2.Response
    ) -> None:
        self._wire = wire
        self._exchange = exchange
        self._request = request
        self._headers = response.headers
        self._streams = response.headers.get("content-type") == "text/event-stream"
        self._data = b""

    def read(self, data: bytes) -> None:
        """Takes a piece of the body."""
        self._data += data
        if self._streams:
            *frames, self._data = self._data.split(b"\n\n")
            for frame in frames:
                self._checked(self._read_event, frame.decode())

    def finish(self) -> None:
        """Takes the end of the body."""
        if not self._exchange.whole:
            self._exchange.whole = True
            self._checked(self._check_end)

    def _checked(self, check: Any, *arguments: Any) -> None:
        # Kept, not raised: the client would take it for a failure of the connection.
        try:
            check(*arguments)
        except (AssertionError, ValueError) as problem:
            self._wire.problems.append(f"{self._exchange.operation}: {problem}")

    def _read_event(self, frame: str) -> None:
        match = _EVENT.fullmatch(frame)
        assert match, f"no event: {frame!r}"
        name, text = match.groups()
        data = text if name == "done" else json.loads(text)
        self._exchange.events.append((name, data))
        validate_event(name, data)

    def _check_end(self) -> None:
        exchange = self._exchange
        assert self._headers.get("x-request-id"), "no x-request-id"
        if self._streams:
            assert not self._data, f"the stream breaks off: {self._data!r}"
            check_stream(exchange.events)
            return
        assert self._headers["content-type"] == "application/json"
        exchange.body = json.loads(self._data)
        if exchange.status == 200:
            validate_response(self._request.method, self._request.url.path, exchange.body)
        else:
            validate("ErrorResponse", exchange.body)


class _SyncStream(httpx2.SyncByteStream):
    def __init__(self, response: httpx2.Response, reader: Reader) -> None:
        assert isinstance(response.stream, httpx2.SyncByteStream)
        self._stream = response.stream
        self._reader = reader

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            self._reader.read(data)
            yield data
        self._reader.finish()

    def close(self) -> None:
        self._stream.close()


class _Transport(httpx2.HTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        response.stream = _SyncStream(response, self._wire.begin(request, response))
        return response


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response, reader: Reader) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._stream = response.stream
        self._reader = reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self._reader.read(data)
            yield data
        self._reader.finish()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        response.stream = _AsyncStream(response, self._wire.begin(request, response))
        return response


@cache
def operations() -> dict[str, tuple[str, re.Pattern[str]]]:
    """Returns the method and the path's pattern of each of the contract's operations."""
    return {
        operation["operationId"]: (
            method.upper(),
            re.compile("/v1" + re.sub(r"{\w+}", "(?!runs$)[^/]+", path)),
        )
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


def _operation_id(request: httpx2.Request) -> str:
    for name, (method, path) in operations().items():
        # `/threads/runs` is no thread.
        if method == request.method and path.fullmatch(request.url.path):
            return name
    return f"{request.method} {request.url.path}"
