"""HTTP at its edges: headers that belong to others, odd framing, old and new versions."""

from collections.abc import Iterator

import pytest

from tests.support.hostile import http2
from tests.support.hostile.http1 import Connection, ask, check_up, head
from tests.support.stack import Stack

BODY = b'{"metadata": {"a": "b"}}'
JSON = ("content-type", "application/json")
LENGTH = ("content-length", str(len(BODY)))


@pytest.fixture(autouse=True)
def up(server: Stack) -> Iterator[None]:
    """The server does its work after each of these tests."""
    yield
    check_up(server)


FORGED: list[tuple[str, str | bytes]] = [
    ("x-edge-body-keys", "v666f6f"),
    ("x-edge-body-keys", "zz"),
    ("x-edge-body-keys", "n6d65746164617461"),
    ("x-envoy-original-path", "/v1/threads/other"),
    ("openai-error", '{"error": 1}'),
    ("openai-status", "500"),
    ("grpc-status", "13"),
    ("grpc-message", "no"),
    ("grpc-timeout", "1n"),
    ("grpc-timeout", "never"),
    ("grpc-encoding", "gzip"),
    ("grpc-accept-encoding", "x"),
    ("grpc-status-details-bin", "!"),
    ("some-bin", "!"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-retry-on", "5xx,reset"),
    ("x-envoy-max-retries", "100"),
    ("x-envoy-force-trace", "true"),
    ("x-envoy-internal", "true"),
    ("x-request-id", "x" * 5_000),
    ("x-request-id", b"\xff\xfe"),
    ("x-forwarded-for", "evil, 10.0.0.1"),
    ("x-http-method-override", "DELETE"),
    ("authorization", b"\xff\x80"),
    ("authorization", "Bearer " + "x" * 50_000),
    ("openai-beta", "assistants=v1"),
    ("openai-organization", "\t"),
    ("user-agent", ""),
    ("accept", "text/html"),
    ("accept-encoding", "gzip, br"),
    ("range", "bytes=0-1"),
    ("if-match", "x"),
    ("cookie", "a=b"),
    ("host", "evil.example"),
    ("upgrade", "h2c"),
    ("connection", "close, te, content-length"),
    ("last-event-id", "-1"),
    ("x-event-ids", "on"),
    ("x" * 1_000, "y"),
    ("priority", "u=9"),
]


@pytest.mark.parametrize(
    "name_and_value", FORGED, ids=lambda each: f"{each[0][:30]}: {each[1][:20]!r}"
)
def test_headers_that_change_nothing(
    server: Stack, name_and_value: tuple[str, str | bytes]
) -> None:
    made = ask(server, "POST", "/v1/threads", BODY, [JSON, name_and_value])
    assert (made.status, made.body["metadata"]) == (200, {"a": "b"})
    path = f"/v1/threads/{made.body['id']}"
    assert ask(server, "GET", path, headers=[name_and_value]).body == made.body
    kept = ask(server, "POST", path, b"{}", [JSON, name_and_value])
    assert kept.body["metadata"] == {"a": "b"}
    missing = ask(server, "GET", "/v1/threads/t_1", headers=[name_and_value])
    assert missing.error["message"] == "No thread found with id 't_1'."


def test_all_of_them_at_once(server: Stack) -> None:
    small = [(name, value) for name, value in FORGED if len(value) < 1_000]
    assert ask(server, "POST", "/v1/threads", BODY, [JSON, *small]).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"a: x\x01y",
        b"a: x\0y",
        b"a b: c",
        b": c",
        b"no colon",
        b"\xff: c",
        b"content-length: 1\r\ncontent-length: 2",
        b"content-length: -1",
        b"content-length: 99999999999999999999",
        b"content-length: 0x10",
        b"transfer-encoding: gzip",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
        b"upgrade: websocket\r\nconnection: upgrade",
        b" folded",
        b"a: b\n\tc",
        b"\r\n".join([b"a: b"] * 500),
        b"a: " + b"b" * 70_000,
        b"b" * 70_000 + b": a",
    ],
    ids=lambda lines: repr(lines[:40]),
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_heads_that_cannot_be_read(server: Stack, method: str, lines: bytes) -> None:
    with Connection(server) as connection:
        begin = f"{method} /v1/threads/t_1 HTTP/1.1\r\nhost: h\r\n".encode()
        connection.send(begin + lines + b"\r\n\r\n")
        answer = connection.read(method).check()
        assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    "data",
    [
        b"\0\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 300,
        b"GET\r\n\r\n",
        b"GET /v1/threads\r\n\r\n",
        b"GET  /v1/threads  HTTP/1.1\r\n\r\n",
        b"GET /v1/threads HTTP/9.9\r\nhost: h\r\n\r\n",
        b"GET /v1/threads HTTP/1.1\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /v1/thr\xff\x80 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /v1/thr\0eads HTTP/1.1\r\nhost: h\r\n\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_request(server: Stack, data: bytes) -> None:
    with Connection(server) as connection:
        connection.send(data)
        assert 400 <= connection.read().check().status < 500


def test_another_address_in_the_request_line(server: Stack) -> None:
    made = ask(server, "POST", "http://evil.example/v1/threads", BODY)
    assert ask(server, "GET", f"http://x@y:1/v1/threads/{made.body['id']}").body == made.body


def test_http_1_0(server: Stack) -> None:
    with Connection(server) as connection:
        connection.send(b"GET /v1/threads/t_1 HTTP/1.0\r\n\r\n")
        answer = connection.read().check()
        # 426 if it is not spoken at all.
        assert answer.status in (404, 426)


def test_pipelined_requests_are_answered_in_their_order(server: Stack) -> None:
    ids = [ask(server, "POST", "/v1/threads", b"{}").body["id"] for _ in range(5)]
    requests = [head("GET", f"/v1/threads/{id}") for id in ids]
    requests.insert(2, head("POST", "/v1/threads", [JSON, LENGTH]) + BODY)
    requests.insert(4, head("GET", "/v1/threads/t_1"))
    with Connection(server) as connection:
        connection.send(b"".join(requests))
        answers = [connection.read().check() for _ in requests]
    found = [answer.body.get("id") for answer in answers]
    assert [found[at] for at in (0, 1, 3, 5, 6)] == ids
    assert (answers[2].status, answers[4].status) == (200, 404)


def test_a_refusal_that_does_not_wait_for_the_body_ends_the_connection(server: Stack) -> None:
    for method, path in (("PUT", "/v1/threads"), ("POST", "/x")):
        with Connection(server) as connection:
            connection.send(
                head(method, path, [JSON, LENGTH]), BODY, head("GET", "/v1/threads/t_1")
            )
            answer = connection.read(method).check()
            assert (answer.status, answer.headers["connection"]) == (404, "close")
            assert connection.ended()


def test_chunked_bodies(server: Stack) -> None:
    chunked = ("transfer-encoding", "chunked")
    pieces = [b"1;ext=x\r\n%c\r\n" % byte for byte in BODY]
    for end in (b"0\r\n\r\n", b"0\r\nx-edge-body-keys: v61\r\ngrpc-status: 9\r\n\r\n"):
        with Connection(server) as connection:
            connection.send(head("POST", "/v1/threads", [JSON, chunked]), *pieces, end)
            assert connection.read("POST").check().body["metadata"] == {"a": "b"}
    for broken in (
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n",
        b"fffffffffffffffff\r\n{}",
    ):
        with Connection(server) as connection:
            connection.send(head("POST", "/v1/threads", [JSON, chunked]), broken)
            assert connection.read("POST").check().status == 400


def test_expect_continue(server: Stack) -> None:
    with Connection(server) as connection:
        connection.send(head("POST", "/v1/threads", [JSON, LENGTH, ("expect", "100-continue")]))
        assert connection.socket.recv(64).startswith(b"HTTP/1.1 100")
        connection.send(BODY)
        assert connection.read("POST").check().body["metadata"] == {"a": "b"}


def test_head_has_no_body(server: Stack) -> None:
    with Connection(server) as connection:
        connection.send(head("HEAD", "/v1/threads"), head("GET", "/v1/threads/t_1"))
        assert connection.read("HEAD").check().status == 404
        assert connection.read("GET").check().error["message"] == "No thread found with id 't_1'."


def test_requests_that_are_left_off(server: Stack) -> None:
    whole = head("POST", "/v1/threads", [JSON, LENGTH]) + BODY
    for length in range(1, len(whole), 7):
        with Connection(server) as connection:
            connection.send(whole[:length])


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+json"])
def test_who_claims_to_speak_grpc_is_answered_in_grpc(server: Stack, kind: str) -> None:
    forged = [("content-type", kind), ("x-edge-body-keys", "v61"), LENGTH]
    for path in ("/v1/threads", "/assistants.v1.rest.ThreadsService/CreateThread", "/x"):
        with Connection(server) as connection:
            connection.send(head("POST", path, forged), BODY)
            answer = connection.read("POST")
        assert answer.headers["content-type"].startswith("application/grpc")
        assert (answer.status, answer.headers.get("grpc-status") != "0") == (200, True)
        assert answer.data == b""


H2 = http2.fields(b"GET", b"/v1/threads/t_1")
POST = http2.fields(b"POST", b"/v1/threads", (b"content-type", b"application/json"))


def test_h2(server: Stack) -> None:
    with http2.Connection(server) as connection:
        connection.request(1, POST, BODY)
        made = connection.read(1)[1].check().body
        assert made["metadata"] == {"a": "b"}
        path = f"/v1/threads/{made['id']}".encode()
        for stream, fields in enumerate([http2.fields(b"GET", path), H2] * 20):
            connection.request(2 * stream + 3, fields)
        answers = connection.read(*range(3, 83, 2))
    assert [each.check().status for each in answers.values()] == [200, 404] * 20


@pytest.mark.parametrize(
    ("more", "body", "status"),
    [
        ((b"te", b"gzip"), BODY, None),
        ((b"connection", b"close"), BODY, None),
        ((b"content-length", b"5"), BODY, None),
        ((b"X-Upper", b"a"), BODY, None),
        ((b":path", b"/v1/x"), BODY, None),
        ((b":unknown", b"x"), BODY, None),
        ((b"a", b"\r\nb: c"), BODY, None),
        ((b"a", b"\0"), BODY, None),
        ((b"", b"x"), BODY, None),
        ((b"a", b"x" * 15_000), BODY, 200),
        ((b"x-edge-body-keys", b"v61"), BODY, 200),
        ((b"grpc-timeout", b"1n"), BODY, 200),
        ((b"x-envoy-original-path", b"/"), BODY, 200),
        ((b"a", b"b"), b"\0", 400),
        ((b"a", b"b"), b"[" * 10_000, 400),
        ((b"a", b"b"), None, 200),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_h2_requests_of_any_kind(
    server: Stack, more: tuple[bytes, bytes], body: bytes | None, status: int | None
) -> None:
    with http2.Connection(server) as connection:
        connection.request(1, [*POST, more], body)
        answer = connection.read(1)[1]
    # What breaks the protocol ends the stream, or the connection, and is not answered.
    assert answer.status or status is None
    if answer.status:
        answer.check()
    if status:
        assert answer.status == status


def test_h2_headers_without_end(server: Stack) -> None:
    block = http2.encoded([(b"a%d" % number, b"b" * 1_000) for number in range(15)])
    with http2.Connection(server) as connection:
        connection.send(http2.frame(http2.HEADERS, 0, 1, http2.encoded(H2)))
        connection.send(*[http2.frame(http2.CONTINUATION, 0, 1, block)] * 100)
        answer = connection.read(1)[1]
    assert answer.status in (0, 431)
    if answer.status:
        answer.check()


def test_h2_floods(server: Stack) -> None:
    for frames in (
        [http2.frame(http2.PING, 0, 0, b"12345678")] * 20_000,
        [http2.frame(http2.SETTINGS, 0, 0, b"")] * 20_000,
        [http2.frame(http2.DATA, 0, 1, b"")] * 20_000,
        [http2.frame(http2.RST_STREAM, 0, 1, bytes(4))] * 1_000,
        [http2.frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")] * 10,
        [http2.frame(99, 255, 1, b"x" * 1_000)] * 1_000,
        [http2.frame(http2.HEADERS, 255, 0, b"\xff" * 100)],
    ):
        with http2.Connection(server) as connection:
            connection.request(1, POST)
            connection.send(*frames)


def test_h2_streams_that_are_reset_at_once(server: Stack) -> None:
    for _ in range(10):
        with http2.Connection(server) as connection:
            for stream in range(1, 201, 2):
                connection.request(stream, H2)
                connection.send(http2.frame(http2.RST_STREAM, 0, stream, bytes([0, 0, 0, 8])))
