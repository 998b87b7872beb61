"""Clients that mean harm, each bounded in count: one that behaves well is served meanwhile."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support.hostile import http2
from tests.support.hostile.http1 import Connection, ask, check_up, head
from tests.support.model_server import ModelServer
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS

CALLS = 20
"""What the client that behaves well asks for, at least, and as long as the other goes on."""

LENGTH = ("content-length", "1000")
JSON = ("content-type", "application/json")


@pytest.fixture(scope="module")
def strict(model_server: ModelServer) -> Iterator[Stack]:
    """A server with all limits as low as tests want them."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MAX_BODY_BYTES": "65536",
        "ASSISTANTS_MAX_HEADER_KIB": "8",
        "ASSISTANTS_MAX_CONNECTIONS": "50",
        "ASSISTANTS_MAX_STREAMS": "3",
        "ASSISTANTS_HEADERS_TIMEOUT": "1",
        "ASSISTANTS_REQUEST_TIMEOUT": "2",
        "ASSISTANTS_KEEP_ALIVE_SECONDS": "1",
        "ASSISTANTS_IDLE_TIMEOUT": "1",
    }
    with serving(settings) as stack:
        yield stack


def serves_during(server: Stack, attack: Callable[[], None]) -> None:
    """Runs an attack; fails unless every call of another client is answered meanwhile."""
    with ThreadPoolExecutor() as threads:
        attacking: Future[None] = threads.submit(attack)
        calls = 0
        while calls < CALLS or not attacking.done():
            check_up(server)
            calls += 1
        attacking.result()
    check_up(server)


def test_slow_headers_and_bodies(server: Stack) -> None:
    """Hundreds that never end; they hold nothing that others need."""
    with contextlib.ExitStack() as stack:

        def attack() -> None:
            slow = [stack.enter_context(Connection(server)) for _ in range(400)]
            for connection in slow[:200]:
                connection.send(b"POST /v1/threads HTTP/1.1\r\nhost: x\r\n")
            for connection in slow[200:]:
                connection.send(head("POST", "/v1/threads", [JSON, LENGTH]), b'{"metadata"')
            for _ in range(20):
                for connection in slow[:200]:
                    connection.send(b"a: b\r\n")
                for connection in slow[200:]:
                    connection.send(b" ")

        serves_during(server, attack)


def test_who_is_slow_is_cut_off(strict: Stack) -> None:
    with Connection(strict) as headers, Connection(strict) as body, Connection(strict) as idle:
        headers.send(b"POST /v1/threads HTTP/1.1\r\nhost: x\r\n")
        body.send(head("POST", "/v1/threads", [JSON, LENGTH]), b'{"metadata"')
        for connection in (headers, body):
            answer = connection.read("POST")
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert answer.error["message"] == "The request did not arrive in time."
            assert connection.ended()
        assert idle.ended()


def test_five_thousand_idle_connections(server: Stack) -> None:
    with contextlib.ExitStack() as stack:

        def attack() -> None:
            for _ in range(5_000):
                stack.enter_context(Connection(server))

        serves_during(server, attack)


def test_more_connections_than_there_may_be(strict: Stack) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(strict)) for _ in range(200)]
        # Of most, nothing but their end is heard; who idles makes room again.
        assert all(connection.ended() for connection in connections)
    check_up(strict)


def test_bodies_and_headers_up_to_their_settings(strict: Stack) -> None:
    body = b'{"metadata": {"a": "b"}}'
    for size, status in ((65_536, 200), (65_537, 413)):
        assert ask(strict, "POST", "/v1/threads", body.ljust(size)).status == status
    for size, status in ((7_000, 404), (9_000, 431)):
        answer = ask(strict, "GET", "/v1/threads/t_1", headers=[("a", "b" * size)])
        assert answer.status == status


def test_rapid_reset(server: Stack) -> None:
    fields = http2.encoded(http2.fields(b"GET", b"/v1/assistants"))
    cancel = struct.pack(">I", 8)

    def attack() -> None:
        for _ in range(4):
            with http2.Connection(server) as connection:
                for stream in range(1, 10_001, 2):
                    flags = http2.END_HEADERS | http2.END_STREAM
                    connection.send(
                        http2.frame(http2.HEADERS, flags, stream, fields),
                        http2.frame(http2.RST_STREAM, 0, stream, cancel),
                    )
                # It is sent away, not answered.
                assert _gone(connection.socket)

    serves_during(server, attack)


def _gone(connection: socket.socket) -> bool:
    """Waits until the server closes a connection."""
    connection.settimeout(SECONDS)
    with contextlib.suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return True


@pytest.mark.parametrize("kind", [http2.SETTINGS, http2.PING])
def test_floods_of_control_frames(server: Stack, kind: int) -> None:
    payload = b"\0" * 8 if kind == http2.PING else struct.pack(">HI", http2.INITIAL_WINDOW, 65_535)
    flood = http2.frame(kind, 0, 0, payload) * 1_000

    def attack() -> None:
        for _ in range(4):
            with http2.Connection(server) as connection:
                # Whose answers nobody reads.
                connection.socket.settimeout(5)
                with contextlib.suppress(TimeoutError):
                    for _ in range(200):
                        connection.send(flood)

    serves_during(server, attack)


def test_floods_of_empty_frames_and_of_continuations(server: Stack) -> None:
    fields = http2.fields(b"POST", b"/v1/threads", (b"content-type", b"application/json"))
    opened = http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.encoded(fields))
    unended = http2.frame(http2.HEADERS, 0, 1, http2.encoded(fields))
    more = http2.encoded([(b"a", b"b" * 100)])
    floods = [
        (opened, http2.frame(http2.DATA, 0, 1, b"")),
        (unended, http2.frame(http2.CONTINUATION, 0, 1, more)),
    ]

    def attack() -> None:
        for begin, repeated in floods:
            with http2.Connection(server) as connection:
                connection.send(begin, *[repeated * 1_000] * 50)
                assert _gone(connection.socket)

    serves_during(server, attack)
