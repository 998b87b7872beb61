"""The HTTP client of model servers."""

import asyncio
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from service.models import proxies, tls, values
from service.models.failures import error_text
from service.models.transport import Body, Connector
from service.process import tracing

CONNECT_TIMEOUT = 10.0
"""Seconds that a connection to the model server may take, proxy and TLS included."""

KEPT = 15.0
"""Seconds for which a connection that is not used is kept."""

READ_SIZE = 2**16
"""Bytes of an answer that may lie unread, about: then its server waits."""

MAX_HEADER = 2**16
"""Bytes of a line of an answer's head."""

MAX_HEADERS = 1000

MAX_REDIRECTS = 10

MAX_BODY = 2**24
"""Bytes of a body that is read as a whole."""

_BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What is raised where a connection fails. Timeouts are OSErrors as well."""


class Failure(Exception):
    """A request got no answer, or a part of one."""


class Silent(Failure):
    """The server was silent for too long."""


class Broken(Failure):
    """The connection failed."""


class Refused(Failure):
    """The server answered with the status of an error."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        """`body` is its JSON, without an `error` around it, or its text."""
        super().__init__(f"status {status}: {error_text(body) or 'no words'}")
        self.status = status
        self.body = body
        self.headers = headers


class Response:
    """An answer whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Reads the answer of an open connection, which whoever made it closes."""
        self._response = response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, under names in any case."""
        return self._response.headers

    @property
    def media_type(self) -> str:
        """The type in `Content-Type`, in lower case, without parameters."""
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
            # The calls of aiohttp forget what was not read when the connection failed.
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
        """Reads the environment; the first request connects. Raises SettingsError."""
        url = URL(base_url)
        self._authorization = f"Bearer {api_key}"
        password = url.password or ""
        if url.user is not None:
            self._authorization = aiohttp.encode_basic_auth(url.user, password)
        credentials = self._authorization.partition(" ")[2]
        self.secrets = tuple(each for each in (api_key, password, credentials) if len(each) >= 8)
        """What nobody may see of what it sends. What is shorter is no secret, but a word."""
        self._idle_timeout = idle_timeout
        self._proxy = proxies.proxy_of(url)
        self._tls = tls.context()
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: Mapping[str, Any]) -> Response:
        """Sends a request; returns its answer, which the caller must close. Raises Failure.

        A server that names another place is asked there.
        """
        data = values.dump(body)
        # Credentials in the address have become a header.
        place = URL(url).with_user(None)
        headers = {"Authorization": self._authorization}
        for _ in range(MAX_REDIRECTS):
            response = await self._send(place, data, headers)
            if response.status not in (307, 308) or "location" not in response.headers:
                break
            response.close()
            there = _joined(place, response.headers["location"])
            if not _is_same_server(place, there):
                headers = {}
            place = there
        else:
            raise Broken("too many redirects")
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

    async def _send(self, place: URL, data: bytes, headers: Mapping[str, str]) -> Response:
        """Sends a request once, and again while the connection that it went out on was gone.

        Servers may close one that is kept at any time, llama.cpp's right after a streamed answer.
        """
        if self._session is None:
            self._session = self._opened()
        while True:
            body = Body(data, self._idle_timeout)
            try:
                async with asyncio.timeout(None) as body.patience:
                    response = await self._session.post(
                        place, data=body, headers=headers, allow_redirects=False
                    )
                return Response(response)
            except _BROKEN as error:
                if body.opened or isinstance(error, TimeoutError):
                    raise _failure(error) from error
            finally:
                body.patience = None

    def _opened(self) -> aiohttp.ClientSession:
        """Returns the session. There must be a running loop."""
        return aiohttp.ClientSession(
            connector=Connector(limit=0, ssl=self._tls, keepalive_timeout=KEPT),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=min(CONNECT_TIMEOUT, self._idle_timeout),
                sock_read=self._idle_timeout,
            ),
            headers={
                "Accept": "application/json",
                "User-Agent": f"assistants/{metadata.version('assistants')}",
            },
            proxy=self._proxy,
            trace_configs=tracing.http_client(),
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # From addresses, too.
            read_bufsize=READ_SIZE,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )


def _joined(place: URL, location: str) -> URL:
    """Returns where a server sends its client. Raises Broken if that is nowhere."""
    try:
        there = place.join(URL(location))
    except ValueError as error:
        raise Broken("a redirect to nowhere") from error
    if there.scheme not in ("http", "https") or not there.host:
        raise Broken("a redirect to nowhere")
    return there.with_user(None)


def _is_same_server(here: URL, there: URL) -> bool:
    """Returns whether the key that one address has is for the other as well."""
    secured = here.scheme == "http" and here.is_default_port() and here.host == there.host
    return here.origin() == there.origin() or (
        secured and there.scheme == "https" and there.is_default_port()
    )


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
