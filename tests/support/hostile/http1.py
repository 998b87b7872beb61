"""Requests that no HTTP client would send, byte by byte, and what must hold for their answers."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, cast

from tests.support.schemas import validate
from tests.support.stack import Stack
from tests.support.waiting import SECONDS

INTERNAL = ("grpc-", "openai-error", "openai-status", "x-envoy-", "x-edge-")


@dataclass(frozen=True)
class Answer:
    """One response; header names are in lower case."""

    method: str
    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        """The JSON of the answer."""
        return json.loads(self.data)

    @property
    def error(self) -> Any:
        """The four keys of an error."""
        assert self.status >= 400, self
        return self.body["error"]

    def check(self) -> "Answer":
        """Fails unless it is a 2xx, or a 4xx in OpenAI's form."""
        assert 200 <= self.status < 300 or 400 <= self.status < 500, self
        # A client that gets this would ask again.
        assert self.status not in (408, 409, 429), self
        assert not [name for name in self.headers if name.startswith(INTERNAL)], self
        if self.headers.get("content-type") == "text/event-stream":
            return self
        assert self.headers.get("content-type") == "application/json", self
        # Of what Envoy cannot read, it makes no request, and ends the connection.
        unreadable = b'"Bad HTTP request. ' in self.data
        assert (self.headers.get("connection") == "close") if unreadable else True, self
        assert unreadable or self.headers.get("x-request-id"), self
        if self.method == "HEAD":
            assert self.data == b""
        elif self.status >= 400:
            validate("ErrorResponse", self.body)
        else:
            assert isinstance(self.body, dict), self
        return self


class Connection:
    """A connection to the server, to write to and read from at will."""

    def __init__(self, server: Stack, receive_buffer: int | None = None) -> None:
        """Connects; `receive_buffer` is the kernel's, in bytes."""
        host, _, port = server.env["ASSISTANTS_HTTP_ADDRESS"].rpartition(":")
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.connect((host, int(port)))
        self._file = self.socket.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        """Sends the pieces, so far as the server takes them."""
        # It may have answered already, and not want the rest.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self.socket.sendall(piece)

    def read(self, method: str = "GET") -> Answer:
        """Reads one response to a request with this method."""
        response = http.client.HTTPResponse(cast(socket.socket, _Shared(self._file)), method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(method, response.status, headers, response.read())

    def ended(self) -> bool:
        """Waits for the server to close the connection; False if it sends something more."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Closes the connection."""
        self._file.close()
        self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Shared:
    """Lets several responses be read from one connection."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file

    def makefile(self, _: str) -> "_Shared":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass


def head(method: str, path: str | bytes, headers: Iterable[tuple[str, str | bytes]] = ()) -> bytes:
    """Returns the head of a request, as it is given."""
    lines = [method.encode() + b" " + _bytes(path) + b" HTTP/1.1", b"host: localhost"]
    lines += [name.encode() + b": " + _bytes(value) for name, value in headers]
    return b"\r\n".join([*lines, b"", b""])


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def ask(
    server: Stack,
    method: str,
    path: str | bytes,
    body: bytes | None = None,
    headers: Iterable[tuple[str, str | bytes]] = (),
) -> Answer:
    """Asks once on a new connection and returns the answer, which was checked."""
    given = [*headers]
    if body is not None:
        given.append(("content-length", str(len(body))))
        if "content-type" not in [name for name, _ in given]:
            given.append(("content-type", "application/json"))
    with Connection(server) as connection:
        connection.send(head(method, path, given), body or b"")
        return connection.read(method).check()


def check_up(server: Stack) -> None:
    """Fails unless the server does its work."""
    answer = ask(server, "POST", "/v1/threads", b'{"metadata": {"a": "b"}}')
    assert (answer.status, answer.body["metadata"]) == (200, {"a": "b"})
