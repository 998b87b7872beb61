"""The wire between OpenAI's client and the server: it keeps all that comes back, to check it.

Every answer is checked against the published schemas, and every stream also for what holds for all
of them, whatever a test looks at: by the `wire` fixture when the test has ended, so that checking
delays nothing. Nothing is changed on the way.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2

from tests.support.rest.streams import check_stream
from tests.support.schemas import document, validate, validate_event, validate_response

_EVENT = re.compile(r"(?:id: \d+\n)?event: (.+)\ndata: (.+)")

Event = tuple[str, Any]
"""An event's name and its data: parsed, or `[DONE]`."""


@dataclass
class Exchange:
    """A request and its response, so far as the client has read it; `whole` if to its end."""

    method: str
    path: str
    status: int
    headers: httpx2.Headers
    data: bytes = b""
    whole: bool = False

    @property
    def operation(self) -> str:
        """The operation's name in the specification, or the request itself if it has none."""
        for name, (method, path) in operations().items():
            if method == self.method and path.fullmatch(self.path):
                return name
        return f"{self.method} {self.path}"

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.headers.get("content-type") == "text/event-stream"

    @property
    def body(self) -> Any:
        """The JSON of the answer."""
        return json.loads(self.data)

    @property
    def events(self) -> list[Event]:
        """The events of the stream."""
        return list(map(_event, self.data.split(b"\n\n")[:-1]))

    def check(self) -> None:
        """Fails unless the answer is as the published schemas and docs/compatibility.md have it."""
        assert self.headers.get("x-request-id")
        if self.streams:
            for name, data in self.events:
                validate_event(name, data)
            if self.whole:
                assert self.data.endswith(b"\n\n"), "the stream breaks off"
                check_stream(self.events)
            return
        if self.headers.get("content-type") == "application/octet-stream":
            assert (self.status, self.operation) in ((200, "downloadFile"), (206, "downloadFile"))
            return
        assert self.headers.get("content-type") == "application/json"
        if self.status == 200:
            validate_response(self.method, self.path, self.body)
        else:
            validate("ErrorResponse", self.body)


def _event(frame: bytes) -> Event:
    match = _EVENT.fullmatch(frame.decode())
    assert match, f"no event: {frame!r}"
    name, text = match.groups()
    return name, text if name == "done" else json.loads(text)


class Wire:
    """All exchanges of one client, in order."""

    def __init__(self) -> None:
        """Nothing has been exchanged yet."""
        self.exchanges: list[Exchange] = []

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

    def check(self) -> None:
        """Fails unless every answer is right."""
        for exchange in self.exchanges:
            try:
                exchange.check()
            except Exception as error:
                error.add_note(f"The answer to {exchange.method} {exchange.path}")
                raise

    def sync_transport(self) -> httpx2.BaseTransport:
        """Returns a transport for a client."""
        return _Transport(self)

    def async_transport(self) -> httpx2.AsyncBaseTransport:
        """Returns a transport for an asynchronous client."""
        return _AsyncTransport(self)

    def begin(self, request: httpx2.Request, response: httpx2.Response) -> Exchange:
        """Takes the head of a response."""
        exchange = Exchange(
            request.method, request.url.path, response.status_code, response.headers
        )
        self.exchanges.append(exchange)
        return exchange


class _Stream(httpx2.SyncByteStream):
    def __init__(self, response: httpx2.Response, exchange: Exchange) -> None:
        assert isinstance(response.stream, httpx2.SyncByteStream)
        self._stream = response.stream
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            self._exchange.data += data
            yield data
        self._exchange.whole = True

    def close(self) -> None:
        self._stream.close()


class _Transport(httpx2.HTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        response.stream = _Stream(response, self._wire.begin(request, response))
        return response


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response, exchange: Exchange) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._stream = response.stream
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self._exchange.data += data
            yield data
        self._exchange.whole = True

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
    """Returns the method and the path's pattern of each of the specification's operations."""
    return {
        operation["operationId"]: (
            method.upper(),
            # `/threads/runs` is no thread.
            re.compile("/v1" + re.sub(r"{\w+}", "(?!runs$)[^/]+", path)),
        )
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }
