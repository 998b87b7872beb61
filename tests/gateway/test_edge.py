"""The edge as it runs: Envoy, its Lua filter and the REST handlers, before the real server."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from assistants.v1 import threads_pb2, threads_pb2_grpc

from tests.schemas import validate, validate_response
from tests.stack import Stack


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: bytes

    @property
    def error(self) -> Any:
        """The four keys of an error, in the documented form."""
        assert self.headers["content-type"] == "application/json"
        body = json.loads(self.text)
        validate("ErrorResponse", body)
        return body["error"]


def ask(
    server: Stack,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection = http.client.HTTPConnection(server.env["ASSISTANTS_HTTP_ADDRESS"], timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        assert not [name for name in found if name.startswith(("grpc-", "openai-", "x-envoy-"))]
        assert found["x-request-id"]
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


TYPES = [
    ("GET", "/v1/assistants?limit=abc", None, "limit", "an integer", "a string"),
    ("POST", "/v1/assistants", b'{"model": 5}', "model", "a string", "an integer"),
    ("POST", "/v1/assistants", b'{"model": true}', "model", "a string", "a boolean"),
    ("POST", "/v1/assistants", b'{"model": {}}', "model", "a single value", "an object"),
    ("POST", "/v1/assistants", b'{"top_p": "x"}', "top_p", "a decimal", "a string"),
    ("POST", "/v1/assistants", b'{"tools": "x"}', "tools", "an array", "a string"),
    ("POST", "/v1/assistants", b'{"tools": [1.5]}', "tools[0]", "an object", "a decimal"),
    ("POST", "/v1/assistants", b'{"metadata": [1]}', "metadata", "an object", "an array"),
    ("POST", "/v1/threads/t/runs", b'{"stream": 5}', "stream", "a boolean", "an integer"),
    ("POST", "/v1/assistants", b'{"model": ["m"]}', "model", "a single value", "an array"),
    ("POST", "/v1/threads", b'{"messages": [], "tool_resources": [{}]}', "tool_resources",
     "an object", "an array"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "param", "expected", "got"), TYPES)
def test_wrong_types(
    server: Stack, method: str, path: str, body: bytes, param: str, expected: str, got: str
) -> None:
    answer = ask(server, method, path, body)
    assert (answer.status, answer.error) == (
        400,
        {
            "message": f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
            "type": "invalid_request_error",
            "param": param,
            "code": "invalid_type",
        },
    )


LISTED = {
    "messages[0]": b'{"messages": [{"role": ["user"]}]}',
    "tool_resources": b'{"tool_resources": {"file_search": []}}',
}


@pytest.mark.parametrize("param", LISTED)
def test_lists_inside_an_object_name_the_object(server: Stack, param: str) -> None:
    error = ask(server, "POST", "/v1/threads", LISTED[param]).error
    message = f"Invalid type in '{param}': an array is where a single value is expected."
    assert (error["message"], error["param"], error["code"]) == (message, param, "invalid_type")


TOKENS = '{"assistant_id": "a", "max_prompt_tokens": %s}'
ABOVE = ("above maximum value. Expected a value <= 2147483647", "integer_above_max_value")
BELOW = ("below minimum value. Expected a value >= -2147483648", "integer_below_min_value")


@pytest.mark.parametrize(
    ("given", "shown", "expected"),
    [
        ("99999999999", "99999999999", ABOVE),
        ("-3e9", "-3000000000", BELOW),
        ("1e30", "1e+30", ABOVE),
    ],
)
def test_integers_that_32_bits_do_not_hold(
    server: Stack, given: str, shown: str, expected: tuple[str, str]
) -> None:
    words, code = expected
    for param, got, answer in (
        ("limit", given, ask(server, "GET", f"/v1/assistants?limit={given}")),
        (
            "max_prompt_tokens",
            shown,
            ask(server, "POST", "/v1/threads/t/runs", (TOKENS % given).encode()),
        ),
    ):
        assert (answer.status, answer.error) == (
            400,
            {
                "message": f"Invalid '{param}': integer {words}, but got {got} instead.",
                "type": "invalid_request_error",
                "param": param,
                "code": code,
            },
        )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (2**63, "above maximum value. Expected a value <= 9223372036854775807"),
        (-(2**63) - 1, "below minimum value. Expected a value >= -9223372036854775808"),
    ],
)
def test_integers_that_64_bits_do_not_hold(server: Stack, given: int, words: str) -> None:
    answer = ask(server, "GET", f"/v1/threads/t/runs/r/events?after_sequence={given}")
    assert answer.status == 400
    assert answer.error["message"] == (
        f"Invalid 'after_sequence': integer {words}, but got {given} instead."
    )


REFUSED = [
    ("POST", "/v1/assistants", b'{"model": "m", "foo": 1}', 400, "Unknown parameter: 'foo'."),
    ("POST", "/v1/assistants", b'{"model": "m", "f\\u00f6\\ud83d\\ude00": 1}', 400,
     "Unknown parameter: 'fö😀'."),
    ("GET", "/v1/assistants?foo=1", None, 400, "Unknown parameter: 'foo'."),
    ("GET", "/v1/assistants?metadata[a]=1", None, 400, "Unknown parameter: 'metadata[a]'."),
    ("DELETE", "/v1/threads/a?thread_id=b", None, 400, "Unknown parameter: 'thread_id'."),
    ("DELETE", "/v1/threads/a?threadId=b", None, 400, "Unknown parameter: 'threadId'."),
    ("POST", "/v1/threads/a", b'{"thread_id": "b"}', 400, "Unknown parameter: 'thread_id'."),
    ("POST", "/v1/threads/a", b'{"thread_id": "a"}', 400, "Unknown parameter: 'thread_id'."),
    ("POST", "/v1/assistants", b'{"model": "m", "model": "n"}', 400,
     "Duplicate parameter: 'model'."),
    ("GET", "/v1/assistants?limit=1&limit=2", None, 400, "Duplicate parameter: 'limit'."),
    ("POST", "/v1/assistants", b'{"metadata": {"a": {"b": 1}}}', 400,
     "Invalid type for 'metadata': expected an object with string values."),
    ("POST", "/v1/assistants", b'{"metadata": {"a": 1}}', 400,
     "Invalid type for 'metadata': expected an object with string values."),
    ("POST", "/v1/assistants", b'{"metadata": {"a": ["b"]}}', 400,
     "Invalid type for 'metadata': expected an object with string values."),
    ("POST", "/v1/assistants", b'{"": 1}', 400, "Unknown parameter: ''."),
    ("GET", "/v1/threads/nope", None, 404, "No thread found with id 'nope'."),
    ("GET", "/v1/x?y=z", None, 404, "Invalid URL (GET /v1/x)"),
    ("PUT", "/v1/threads", b"{}", 404, "Invalid URL (PUT /v1/threads)"),
    ("POST", "/assistants.v1.rest.ThreadsService/CreateThread", b"{}", 404,
     "Invalid URL (POST /assistants.v1.rest.ThreadsService/CreateThread)"),
    ("POST", "/v1/threads", b'{"a":"' + b"x" * (17 << 20) + b'"}', 413,
     "The body of the request is too large."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    REFUSED,
    ids=[f"{method} {path} {(body or b'')[:40]!r}" for method, path, body, _, _ in REFUSED],
)
def test_refusals(
    server: Stack, method: str, path: str, body: bytes, status: int, message: str
) -> None:
    answer = ask(server, method, path, body)
    assert (answer.status, answer.error["message"]) == (status, message)


DEEP = b'{"metadata":' + b"[" * 200 + b"]" * 200 + b"}"
BROKEN = [b"x", b"[1]", b"{", b'{"a"', b'{"a":', b'{"a":}', b'{"a":1,}', b'{"a":1} x', b'"a"', b" "]
BROKEN += [b"{'a':1}", b'{"a":"\\', b'{"a":[}', DEEP]
INSIDE = [b"{'a': 'b'}", b'{a: "b"}', b'{"a": "b",}', b'{"a": "b" "c": "d"}', b'{"a": "b"]', b"{,}"]
INSIDE += [
    b'{"a": "\t"}',
    b'{"a": "\n"}',
    b'{"a\0": "b"}',
    rb'{"a": "\x"}',
    b'{"a" "b"}',
    b'{"a": tru}',
]
BROKEN += [b'{"metadata": %s}' % value for value in INSIDE]
NUMBERS = [
    b"1.",
    b".5",
    b"+1",
    b"01",
    b"-",
    b"1e",
    b"1e+",
    b"1.5.5",
    b"0x10",
    b"NaN",
    b"-Infinity",
    b"1a",
]
BROKEN += [b'{"temperature": %s}' % value for value in NUMBERS]
BROKEN += [
    b'{"messages": %s}' % value for value in (b"[{},]", b"[,]", b"[{} {}]", b"[{}", b"['x']")
]


@pytest.mark.parametrize("body", BROKEN)
def test_bodies_that_are_no_json_objects(server: Stack, body: bytes) -> None:
    answer = ask(server, "POST", "/v1/threads", body)
    assert answer.status == 400
    assert answer.error["message"].startswith("We could not parse the body of your request")


@pytest.mark.parametrize("body", [None, b"", b"{}", b' \n{ "metadata" : null }\t'])
def test_bodies_without_values(server: Stack, body: bytes | None) -> None:
    answer = ask(server, "POST", "/v1/threads", body)
    assert answer.status == 200, answer.text
    validate_response("POST", "/v1/threads", json.loads(answer.text))


def test_headers_that_belong_to_the_edge_cannot_be_forged(server: Stack) -> None:
    forged = {
        "x-edge-body-keys": "v666f6f",
        "x-envoy-original-path": "/v1/threads/other",
        "openai-error": "{}",
        "openai-status": "418",
        "grpc-timeout": "1n",
        "grpc-encoding": "gzip",
        "odd-bin": "!",
    }
    answer = ask(server, "POST", "/v1/threads", b"{}", forged)
    assert answer.status == 200
    path = f"/v1/threads/{json.loads(answer.text)['id']}"
    assert ask(server, "GET", path, headers=forged).status == 200


def test_headers_that_are_too_large(server: Stack) -> None:
    assert ask(server, "GET", "/v1/threads/t", headers={"a": "x" * 50_000}).status == 404
    host, port = server.env["ASSISTANTS_HTTP_ADDRESS"].split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET /v1/threads/t HTTP/1.1\r\nhost: h\r\na: " + b"x" * 70_000 + b"\r\n\r\n")
        head, _, body = raw.recv(4096).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431")
    validate("ErrorResponse", json.loads(body))


def test_grpc_passes_through_the_same_port(server: Stack) -> None:
    with grpc.insecure_channel(server.env["ASSISTANTS_HTTP_ADDRESS"]) as channel:
        threads = threads_pb2_grpc.ThreadsServiceStub(channel)
        thread = threads.CreateThread(threads_pb2.CreateThreadRequest(metadata={"a": "b"}))
        rest = channel.unary_unary(
            "/assistants.v1.rest.ThreadsService/CreateThread",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        with pytest.raises(grpc.RpcError) as raised:
            rest(b"")
    assert thread.metadata == {"a": "b"}
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert ask(server, "GET", f"/v1/threads/{thread.id}").status == 200
