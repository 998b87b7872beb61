"""Browsers: CORS where origins are named, and gRPC-Web."""

import base64
import http.client
from collections.abc import Iterator

import pytest
from assistants.v1 import threads_pb2

from tests.support.model_server import ModelServer
from tests.support.stack import Stack, serving

ORIGIN = "https://app.example"
ALLOWED = "access-control-allow-origin"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture(scope="module")
def shared(model_server: ModelServer) -> Iterator[Stack]:
    """A server that pages of one origin may call."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_CORS_ORIGINS": f"{ORIGIN}, http://127.0.0.1:3000",
    }
    with serving(settings) as stack:
        yield stack


def ask(
    stack: Stack, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(stack.env["ASSISTANTS_HTTP_ADDRESS"], timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()


def test_a_page_of_an_origin_that_is_named(shared: Stack) -> None:
    given = {"origin": ORIGIN}
    status, headers, _ = ask(shared, "OPTIONS", "/v1/threads", given | PREFLIGHT)
    assert (status, headers[ALLOWED]) == (200, ORIGIN)
    assert headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert headers["access-control-allow-headers"] == "*, authorization"
    assert "access-control-allow-credentials" not in headers
    for method, path, body, expected in (
        ("POST", "/v1/threads", b"{}", 200),
        # By the server, by the filter, by the transcoder: a page may read why it was refused.
        ("GET", "/v1/threads/thread_x", b"", 404),
        ("POST", "/v1/threads", b'{"a": 1}', 400),
        ("GET", "/v1/assistants?limit=x", b"", 400),
    ):
        status, headers, _ = ask(shared, method, path, given, body)
        assert (status, headers.get(ALLOWED)) == (expected, ORIGIN), path
        assert headers["access-control-expose-headers"] == "*"


def test_pages_of_others(shared: Stack, server: Stack) -> None:
    """Of other origins, and of all where none is named."""
    for stack, origin in ((shared, "https://evil.example"), (server, ORIGIN)):
        status, headers, _ = ask(stack, "OPTIONS", "/v1/threads", {"origin": origin} | PREFLIGHT)
        assert (status, headers.get(ALLOWED)) == (404, None)
        status, headers, _ = ask(stack, "GET", "/v1/assistants", {"origin": origin})
        assert (status, headers.get(ALLOWED)) == (200, None)


@pytest.mark.parametrize("text", [False, True])
def test_grpc_web(server: Stack, text: bool) -> None:
    request = threads_pb2.CreateThreadRequest(metadata={"a": "b"}).SerializeToString()
    kind = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
    body = b"\0" + len(request).to_bytes(4) + request
    status, headers, data = ask(
        server,
        "POST",
        "/assistants.v1.ThreadsService/CreateThread",
        {"content-type": kind, "accept": kind, "x-grpc-web": "1"},
        base64.b64encode(body) if text else body,
    )
    assert (status, headers["content-type"]) == (200, kind)
    answers, trailers = frames(unpacked(data) if text else data)
    [thread] = [threads_pb2.Thread.FromString(each) for each in answers]
    assert dict(thread.metadata) == {"a": "b"}
    assert trailers["grpc-status"] == "0"


def test_errors_of_grpc_web(server: Stack) -> None:
    request = threads_pb2.GetThreadRequest(thread_id="thread_x").SerializeToString()
    status, headers, data = ask(
        server,
        "POST",
        "/assistants.v1.ThreadsService/GetThread",
        {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
        b"\0" + len(request).to_bytes(4) + request,
    )
    trailers = headers if "grpc-status" in headers else frames(data)[1]
    assert (status, trailers["grpc-status"]) == (200, "5")
    assert "No thread found" in trailers["grpc-message"]


def unpacked(data: bytes) -> bytes:
    """Returns what pieces of base64 hold, each of which may be padded."""
    return b"".join(base64.b64decode(data[start : start + 4]) for start in range(0, len(data), 4))


def frames(data: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Returns the messages, and the trailers that come last."""
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while data:
        kind, length = data[0], int.from_bytes(data[1:5])
        piece, data = data[5 : 5 + length], data[5 + length :]
        if kind & 0x80:
            lines = piece.decode().strip().split("\r\n")
            trailers = {name: value.strip() for name, _, value in (x.partition(":") for x in lines)}
        else:
            messages.append(piece)
    return messages, trailers
