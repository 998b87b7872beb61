"""How aiohttp is made to treat connections to model servers.

Parts of aiohttp that are not public are used here and in `service.models.connections` only.
"""

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

WRITE_SIZE = 2**17
"""Bytes of a request that are sent at a time. More than what the loop takes without waiting."""


class Body(aiohttp.Payload):
    """The body of one request, and whether a connection was opened for it."""

    _autoclose = True

    def __init__(self, data: bytes, idle_timeout: float) -> None:
        """`idle_timeout` is in seconds."""
        super().__init__(data, content_type="application/json")
        self._size = len(data)
        self._idle_timeout = idle_timeout
        self.opened = False
        self.patience: asyncio.Timeout | None = None
        """Ends when the server takes none of the body for too long."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Returns the body as text."""
        data: bytes = self._value
        return data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Sends the body."""
        data = memoryview(self._value)
        for start in range(0, len(data), WRITE_SIZE):
            self._wait(asyncio.get_running_loop().time() + self._idle_timeout)
            await writer.write(data[start : start + WRITE_SIZE])
        # From here on, aiohttp sees to it.
        self._wait(None)

    def _wait(self, until: float | None) -> None:
        if self.patience is not None:
            self.patience.reschedule(until)


class _Connection(ResponseHandler):
    """A connection that ends at once when it is closed.

    A closing TLS connection would wait for its server, and any for what it has not taken yet.
    """

    def close(self) -> None:
        self.abort()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        # aiohttp's parser forgets the body in whose midst it fails: it would never end.
        if isinstance(exc, HttpProcessingError) and self._payload is not None:
            self._payload.set_exception(exc)


class Connector(aiohttp.TCPConnector):
    """Opens connections, and marks the requests for which it does."""

    def __init__(self, **options: Any) -> None:
        """Takes the options of aiohttp's connector."""
        super().__init__(**options)
        self._factory = functools.partial(self._connection)

    async def connect(
        self, req: aiohttp.ClientRequest, *arguments: Any, **named: Any
    ) -> aiohttp.connector.Connection:
        """Returns a connection for a request, one that was kept if there is any."""
        while True:
            connection = await super().connect(req, *arguments, **named)
            # On one that was kept, a server may have sent what nobody asked for.
            if _is_opened(req) or not (connection.protocol and connection.protocol.should_close):
                return connection
            connection.close()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, *arguments: Any
    ) -> ResponseHandler:
        if isinstance(req.body, Body):
            req.body.opened = True
        return await super()._create_connection(req, *arguments)

    def _connection(self) -> ResponseHandler:
        return _Connection(self._loop)


def _is_opened(request: aiohttp.ClientRequest) -> bool:
    return isinstance(request.body, Body) and request.body.opened
