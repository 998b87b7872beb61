"""What is as large as it may be arrives whole; what is larger is refused once and for all."""

import json
from collections.abc import Iterator

import grpc
import httpx2
import openai
import pytest
from assistants.v1 import threads_pb2

from tests.support.grpc.client import connect
from tests.support.hostile import http2
from tests.support.hostile.http1 import Connection, ask, check_up, head
from tests.support.stack import Stack

LONGEST = 256_000
BODY_LIMIT = 16 << 20


@pytest.fixture(autouse=True)
def up(server: Stack) -> Iterator[None]:
    """The server does its work after each of these tests."""
    yield
    check_up(server)


def test_a_hundred_messages_as_long_as_they_may_be(client: openai.OpenAI) -> None:
    thread = client.beta.threads.create()
    texts = []
    for number in range(100):
        # One, two, three and four bytes to a character.
        char = "xéऄ😀"[number % 4] if number < 8 else "x"
        text = f"{number:04}" + char * (LONGEST - 4)
        texts.append(text)
        client.beta.threads.messages.create(thread.id, role="user", content=text)
    page = client.beta.threads.messages.list(thread.id, limit=100, order="asc")
    found = [
        part.text.value for message in page.data for part in message.content if part.type == "text"
    ]
    assert found == texts
    assert not page.has_more


def test_one_character_more_is_too_many(client: openai.OpenAI) -> None:
    for char in "x😀":
        with pytest.raises(openai.BadRequestError, match="string too long"):
            client.beta.threads.create(messages=[{"role": "user", "content": char * (LONGEST + 1)}])


def _padded(size: int) -> bytes:
    body = b'{"metadata": {"a": "b"}}'
    return body + b" " * (size - len(body))


def test_bodies_up_to_the_limit(server: Stack) -> None:
    whole = ask(server, "POST", "/v1/threads", _padded(BODY_LIMIT))
    assert whole.body["metadata"] == {"a": "b"}
    for method in ("POST", "GET", "DELETE", "PUT"):
        answer = ask(server, method, "/v1/threads", _padded(BODY_LIMIT + 1))
        assert answer.status in ((413,) if method == "POST" else (413, 404, 400, 200)), method
    assert ask(server, "POST", "/v1/threads", _padded(BODY_LIMIT + 1)).error == {
        "message": "The body of the request is too large.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_a_body_without_end(server: Stack) -> None:
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    with Connection(server) as connection:
        fields = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
        connection.send(head("POST", "/v1/threads", fields), *[chunk] * 64)
        assert connection.read("POST").check().status == 413


class _Counting(httpx2.HTTPTransport):
    """Counts the requests of a client."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        return super().handle_request(request)


@pytest.fixture
def counting() -> _Counting:
    return _Counting()


@pytest.fixture
def stubborn(server: Stack, counting: _Counting) -> Iterator[openai.OpenAI]:
    """OpenAI's client as it comes: it asks again where that may help."""
    http_client = openai.DefaultHttpxClient(transport=counting)
    with openai.OpenAI(base_url=server.base_url, api_key="test", http_client=http_client) as client:
        assert client.max_retries > 0
        yield client


def test_a_client_does_not_repeat_what_is_too_large(
    stubborn: openai.OpenAI, counting: _Counting
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        stubborn.beta.threads.create(messages=[{"role": "user", "content": "x" * (BODY_LIMIT + 9)}])
    assert (refused.value.status_code, counting.requests) == (413, 1)
    assert refused.value.message.endswith("The body of the request is too large.")
    with pytest.raises(openai.APIStatusError) as refused:
        stubborn.beta.threads.retrieve("thread_x", extra_headers={"a": "b" * 70_000})
    assert (refused.value.status_code, counting.requests) == (431, 2)
    # The connection that was closed is not used again.
    assert stubborn.beta.threads.create(metadata={"a": "b"}).metadata == {"a": "b"}


def test_headers_up_to_the_limit(server: Stack) -> None:
    for size, status in ((50_000, 404), (65_000, 431), (1 << 20, 431)):
        answer = ask(server, "GET", "/v1/threads/t_1", headers=[("a", "b" * size)])
        assert answer.status == status
    many = [(f"a{number}", "b") for number in range(90)]
    assert ask(server, "GET", "/v1/threads/t_1", headers=many).status == 404
    assert ask(server, "GET", "/v1/threads/t_1", headers=many * 3).status == 431


def test_h2_bodies_over_the_limit(server: Stack) -> None:
    fields = http2.fields(b"POST", b"/v1/threads", (b"content-type", b"application/json"))
    with http2.Connection(server) as connection:
        connection.send(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.encoded(fields)))
        connection.upload(1, b"x" * (BODY_LIMIT + 100_000))
        answer = connection.read(1)[1].check()
    assert answer.status == 413


def test_an_error_that_quotes_much_is_short(server: Stack) -> None:
    for value in ("x" * 200_000, "é" * 200_000, '"' * 200_000, "\x7f" * 200_000):
        body = json.dumps({"model": "m", "reasoning_effort": value}).encode()
        answer = ask(server, "POST", "/v1/assistants", body)
        assert (answer.status, len(answer.data) < 8_192) == (400, True)
        assert answer.error["code"] == "invalid_value"


@pytest.mark.parametrize("through", ["ASSISTANTS_GRPC_ADDRESS", "ASSISTANTS_HTTP_ADDRESS"])
def test_messages_of_grpc_up_to_the_limit(server: Stack, through: str) -> None:
    with connect(server.env[through]) as stubs:
        for size, status in (
            ((32 << 20) - 1_000, grpc.StatusCode.INVALID_ARGUMENT),
            (32 << 20, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            request = threads_pb2.CreateThreadRequest(metadata={"a": "x" * size})
            with pytest.raises(grpc.RpcError) as refused:
                stubs.threads.CreateThread(request)
            assert isinstance(refused.value, grpc.Call)
            assert refused.value.code() == status
