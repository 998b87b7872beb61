"""The HTTP client of model servers."""

import asyncio
import functools
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from service.models import proxies, tls, values
from service.models.failures import error_text

CONNECT_TIMEOUT = 10.0
"""Seconds that a connection to the model server may take, proxy and TLS included."""

KEPT = 15.0
"""Seconds for which a connection that is not used is kept."""

READ_SIZE = 2**16
"""Bytes of an answer that may lie unread, about: then its server waits."""

WRITE_SIZE = 2**17
"""Bytes of a request that are sent at a time. More than what the loop takes without waiting."""

MAX_HEADER = 2**16
"""Bytes of a line of an answer's head."""

MAX_HEADERS = 1000

MAX_BODY = 2**24
"""Bytes of a body that is read as a whole."""

_BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What is raised where a connection fails. Timeouts are OSErrors as well."""


class Failure(Exception):
    """A request got no answer, or none to the end."""


class Silent(Failure):
    """The server was silent for too long."""


class Broken(Failure):
    """The connection failed."""


class Refused(Failure):
    """The server answered with a status that says that it does not do what it was asked."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        """`body` is its JSON, without an `error` around it, or its text."""
        super().__init__(f"status {status}: {error_text(body) or 'no words'}")
        self.status = status
        self.body = body
        self.headers = headers


class Response:
    """An answer whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Must be closed."""
        self._response = response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers, under names in any case."""
        return self._response.headers

    @property
    def media_type(self) -> str:
        """What the body is said to be, in lower case, without parameters."""
        given = self.headers.get("content-type", "")
        return given.partition(";")[0].strip().lower()

    @property
    def ended(self) -> bool:
        """Whether all of the body was read."""
        return self._response.content.at_eof()

    async def read(self) -> bytes:
        """Returns all that has come of the body, waiting if it is nothing; empty at its end.

        Raises Failure, but not before all that had come was returned.
        """
        content = self._response.content
        try:
            return await content.readany()
        except _BROKEN as error:
            # aiohttp's own calls forget it.
            if rest := content._read_nowait(-1):
                return rest
            raise _failure(error) from error

    async def whole(self) -> bytes:
        """Returns the rest of the body. Raises Failure, and ValueError if it is too long."""
        pieces, size = [], 0
        while piece := await self.read():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY:
                raise ValueError("a body that is too long")
        return b"".join(pieces)

    def close(self) -> None:
        """Closes the connection at once, unless the body has ended: then it is kept."""
        self._response.close()


class Client:
    """Sends requests to one server, as the environment's proxies and certificates demand.

    `idle_timeout` is how many seconds the server may take nothing of a request, or send nothing.
    """

    def __init__(self, base_url: str, api_key: str, idle_timeout: float) -> None:
        """Connects to nothing yet. Raises SettingsError if the environment makes no sense."""
        url = URL(base_url)
        self._authorization = f"Bearer {api_key}"
        if url.user is not None:
            self._authorization = aiohttp.encode_basic_auth(url.user, url.password or "")
        self._idle_timeout = idle_timeout
        self._proxy = proxies.proxy_of(url)
        self._tls = tls.context()
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: Mapping[str, Any]) -> Response:
        """Sends a request; returns its answer, which the caller must close. Raises Failure.

        Servers may close a connection that is kept at any time, llama.cpp's right after a streamed
        answer: a request that went out on one that is gone is sent again. On a connection that was
        opened for it, a request is sent once.
        """
        data = values.dump(body)
        while True:
            attempt = _Body(data, self._idle_timeout)
            try:
                response = await self._send(url, attempt)
                break
            except TimeoutError as error:
                raise _failure(error) from error
            except _BROKEN as error:
                if attempt.opened:
                    raise _failure(error) from error
        if not 200 <= response.status < 300:
            try:
                raise Refused(response.status, await _error(response), response.headers)
            finally:
                response.close()
        return response

    async def ask(self, url: str, body: Mapping[str, Any]) -> object:
        """Sends a request; returns the JSON of its answer. Raises Failure and ValueError."""
        response = await self.post(url, body)
        try:
            return values.load(await response.whole())
        finally:
            response.close()

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, url: str, body: "_Body") -> Response:
        if self._session is None:
            self._session = self._opened()
        async with asyncio.timeout(None) as patience:
            body.patience = patience
            try:
                # Credentials in the address have become a header.
                return Response(await self._session.post(URL(url).with_user(None), data=body))
            finally:
                body.patience = None

    def _opened(self) -> aiohttp.ClientSession:
        """Returns the session. There must be a running loop."""
        return aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=self._tls, keepalive_timeout=KEPT),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=min(CONNECT_TIMEOUT, self._idle_timeout),
                sock_read=self._idle_timeout,
            ),
            headers={
                "Accept": "application/json",
                "Authorization": self._authorization,
                "User-Agent": f"assistants/{metadata.version('assistants')}",
            },
            proxy=self._proxy,
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # From addresses, too.
            read_bufsize=READ_SIZE,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )


class _Body(aiohttp.Payload):
    """The body of one request, and whether a connection was opened for it.

    While a large one is written, `patience` ends when the server takes none of it for too long.
    """

    _autoclose = True

    def __init__(self, data: bytes, idle_timeout: float) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)
        self._idle_timeout = idle_timeout
        self.opened = False
        self.patience: asyncio.Timeout | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        data: bytes = self._value
        return data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
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


class _Connector(aiohttp.TCPConnector):
    """Opens connections, and tells requests that it does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(self._connection)

    def _connection(self) -> ResponseHandler:
        return _Connection(self._loop)

    async def _create_connection(
        self, req: aiohttp.ClientRequest, *arguments: Any
    ) -> ResponseHandler:
        if isinstance(req.body, _Body):
            req.body.opened = True
        return await super()._create_connection(req, *arguments)


def _failure(error: Exception) -> Failure:
    """Returns what an error of aiohttp's means."""
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return Silent(str(error))
    return Broken(str(error) or type(error).__name__)


async def _error(response: Response) -> object:
    """Returns what a server says beside a status."""
    try:
        data = await response.whole()
    except (Failure, ValueError):
        return ""
    try:
        body = values.load(data)
    except (ValueError, RecursionError):
        return data.decode(errors="replace").strip()
    return body.get("error", body) if isinstance(body, dict) else body
