"""The edge as it runs: Envoy, its Lua filter and the REST handlers, before the real server."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from assistants.v1 import threads_pb2, threads_pb2_grpc

from tests.support.schemas import validate, validate_response
from tests.support.stack import Stack


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
    ("POST", "/v1/assistants", b'{"model": {}}', "model", "a string", "an object"),
    ("POST", "/v1/assistants", b'{"top_p": "x"}', "top_p", "a decimal", "a string"),
    ("POST", "/v1/assistants", b'{"tools": "x"}', "tools", "an array", "a string"),
    ("POST", "/v1/assistants", b'{"tools": [1.5]}', "tools[0]", "an object", "a decimal"),
    ("POST", "/v1/assistants", b'{"metadata": [1]}', "metadata", "an object", "an array"),
    ("POST", "/v1/threads/t/runs", b'{"stream": 5}', "stream", "a boolean", "an integer"),
    ("POST", "/v1/assistants", b'{"model": ["m"]}', "model", "a string", "an array"),
    ("POST", "/v1/threads", b'{"messages": [], "tool_resources": [{}]}', "tool_resources",
     "an object", "an array"),
    ("POST", "/v1/assistants", b'{"tool_resources": 5}', "tool_resources",
     "an object", "an integer"),
    ("POST", "/v1/threads", b'{"metadata": "x"}', "metadata", "an object", "a string"),
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


OUTPUTS = "/v1/threads/t/runs/r/submit_tool_outputs"
NESTED = [
    (OUTPUTS, '{"tool_outputs": [{"tool_call_id": "c", "output": {"x": 1}}]}',
     "tool_outputs[0].output", "a string", "an object"),
    (OUTPUTS, '{"tool_outputs": [{"tool_call_id": "c"}, {"tool_call_id": "c", "output": []}]}',
     "tool_outputs[1].output", "a string", "an array"),
    (OUTPUTS, '{"tool_outputs": [{"tool_call_id": "c", "output": 5}]}',
     "tool_outputs[0].output", "a string", "an integer"),
    (OUTPUTS, '{"tool_outputs": {"output": {}}}', "tool_outputs.output", "a string", "an object"),
    ("/v1/threads", '{"messages": [{"role": ["user"]}]}', "messages[0].role",
     "a string", "an array"),
    ("/v1/threads", '{"tool_resources": {"file_search": []}}', "tool_resources.file_search",
     "an object", "an array"),
    ("/v1/threads", '{"tool_resources": {"file_search": "x"}}', "tool_resources.file_search",
     "an object", "a string"),
    ("/v1/threads", '{"tool_resources": {"file_search": {"vector_store_ids": {}}}}',
     "tool_resources.file_search.vector_store_ids", "an array", "an object"),
    ("/v1/threads", '{"tool_resources": {"file_search": {"vector_store_ids": ["x", {}]}}}',
     "tool_resources.file_search.vector_store_ids[1]", "a string", "an object"),
    ("/v1/threads", '{"tool_resources": {"file_search": {"vector_store_ids": ["x", 5]}}}',
     "tool_resources.file_search.vector_store_ids[1]", "a string", "an integer"),
    ("/v1/threads", '{"tool_resources": {"file_search": {"vector_store_ids": ["x", null]}}}',
     "tool_resources.file_search.vector_store_ids[1]", "a string", "null"),
    ("/v1/threads", '{"messages": [{"attachments": [{"tools": "x"}]}]}',
     "messages[0].attachments[0].tools", "an array", "a string"),
    ("/v1/threads", '{"messages": [{"metadata": []}]}', "messages[0].metadata",
     "an object", "an array"),
    ("/v1/threads/runs", '{"thread": {"messages": [5]}}', "thread.messages[0]",
     "an object", "an integer"),
    ("/v1/threads/runs", '{"truncation_strategy": {"last_messages": {}}}',
     "truncation_strategy.last_messages", "an integer", "an object"),
    ("/v1/threads/runs", '{"truncation_strategy": {"last_messages": 1.5}}',
     "truncation_strategy.last_messages", "an integer", "a decimal"),
    ("/v1/assistants", '{"tools": [{"function": {"strict": []}}]}', "tools[0].function.strict",
     "a boolean", "an array"),
    ("/v1/assistants", '{"tools": [{"function": {"strict": 5}}]}', "tools[0].function.strict",
     "a boolean", "an integer"),
    ("/v1/assistants", '{"tools": [{"function": {"parameters": []}}]}',
     "tools[0].function.parameters", "an object", "an array"),
    ("/v1/assistants", '{"tools": [{"function": {"parameters": true}}]}',
     "tools[0].function.parameters", "an object", "a boolean"),
    ("/v1/assistants",
     '{"tools": [{"file_search": {"ranking_options": {"score_threshold": {}}}}]}',
     "tools[0].file_search.ranking_options.score_threshold", "a decimal", "an object"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param", "expected", "got"), NESTED)
def test_wrong_types_inside_are_named_by_their_path(
    server: Stack, path: str, body: str, param: str, expected: str, got: str
) -> None:
    test_wrong_types(server, "POST", path, body.encode(), param, expected, got)


STRINGS = ['{"a": {"b": 1}}', '{"a": ["b"]}', '{"a": 1}', '{"a": "b", "c": true}']


@pytest.mark.parametrize("value", STRINGS)
def test_metadata_inside_is_named_by_its_path(server: Stack, value: str) -> None:
    error = ask(server, "POST", "/v1/threads", b'{"messages":[{"metadata":%s}]}' % value.encode())
    message = "Invalid type for 'messages[0].metadata': expected an object with string values."
    assert error.error["message"] == message


UNKNOWN = [
    ("/v1/threads", '{"tool_resources": {"file_search": {"file_ids": ["x"]}}}',
     "tool_resources.file_search.file_ids"),
    ("/v1/threads", '{"tool_resources": {"codeInterpreter": {}}}',
     "tool_resources.codeInterpreter"),
    ("/v1/assistants", '{"tools": [{"type": "x"}, {"function": {"name": "f", "foo": {"a": 1}}}]}',
     "tools[1].function.foo"),
    ("/v1/assistants", '{"tools": {"foo": 1}}', "tools.foo"),
    ("/v1/assistants", '{"tools": [[{"foo": 1}]]}', "tools[0][0].foo"),
    ("/v1/assistants", '{"tools": [{"": 1}]}', "tools[0]."),
    ("/v1/assistants", '{"tools": [{"f\\u00f6\\ud83d\\ude00\\"": 1}]}', 'tools[0].fö😀"'),
    ("/v1/assistants", '{"model": "m", "response_format": {"type": "text", "a": 1}}',
     "response_format.a"),
    ("/v1/threads/runs", '{"thread": {"messages": [{"file_ids": []}]}}',
     "thread.messages[0].file_ids"),
    ("/v1/threads", '{"messages": [{"parts": []}]}', "messages[0].parts"),
    ("/v1/threads", '{"messages": [{"attachments": [{"tools": [{"a": 1}]}], "b": 1}], "c": 1}',
     "messages[0].attachments[0].tools[0].a"),
    (OUTPUTS, '{"tool_outputs": [{"id": "x"}]}', "tool_outputs[0].id"),
    (OUTPUTS, '{"thread_id": "x"}', "thread_id"),
    ("/v1/threads/t/runs", '{"include": []}', "include"),
    ("/v1/threads/t/runs", '{"include[]": []}', "include[]"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), UNKNOWN)
def test_the_first_unknown_key_is_refused(server: Stack, path: str, body: str, param: str) -> None:
    answer = ask(server, "POST", path, body.encode())
    assert (answer.status, answer.error) == (
        400,
        {
            "message": f"Unknown parameter: '{param}'.",
            "type": "invalid_request_error",
            "param": param,
            "code": "unknown_parameter",
        },
    )


def test_unknown_keys_that_are_null_are_nothing(server: Stack) -> None:
    null = b'{"x": null, "thread_id": null, "update_mask": null, "metadata": {"a": "b"}}'
    made = json.loads(ask(server, "POST", "/v1/threads", b'{"metadata": {"c": "d"}}').text)
    answer = ask(server, "POST", f"/v1/threads/{made['id']}", null)
    assert json.loads(answer.text) == made | {"metadata": {"a": "b"}}
    many = b",".join(b'"k%d": null' % key for key in range(100))
    function = b'{"name": "f", "x": null, "parameters": {"type": "object", "x": null}}'
    body = (
        b'{%s, "model": "m", "tools": [{"type": "function", "function": %s, "file_search": null}],'
        b'"response_format": {"type": "text", "x": null}}'
    )
    answer = ask(server, "POST", "/v1/assistants", body % (many, function))
    assert answer.status == 200, answer.text
    made = json.loads(answer.text)
    assert made["response_format"] == {"type": "text"}
    assert made["tools"][0]["function"]["parameters"] == {"type": "object", "x": None}


REPEATED = [
    ('{"messages": [{"role": "user", "content": "x", "role": "user"}]}', "messages[0].role"),
    ('{"tool_resources": {"file_search": {}, "file_search": null}}', "tool_resources.file_search"),
    ('{"messages": [{"metadata": {"a": "b", "\\u0061": "b"}}]}', "messages[0].metadata.a"),
    ('{"messages": [{"content": [{"text": "x", "text": ""}]}]}', "messages[0].content[0].text"),
    ('{"messages": [{"attachments": [{"x": null, "x": null}]}]}', "messages[0].attachments[0].x"),
]


@pytest.mark.parametrize(("body", "param"), REPEATED)
def test_keys_are_given_once_at_every_level(server: Stack, body: str, param: str) -> None:
    error = ask(server, "POST", "/v1/threads", body.encode()).error
    message = f"Duplicate parameter: '{param}'."
    assert (error["message"], error["param"], error["code"]) == (
        message, param, "duplicate_parameter",
    )  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/x/y",
        "/v1/threads/t/runs/r/steps",
        "/v1/threads/t/x",
        "/v1/assistants/a/b",
        "/v1/",
        "/v1/%61",
    ],
)
@pytest.mark.parametrize(
    "body", [b"--x\r\ncontent-disposition: form-data", b"{", b'{"foo": 1}', b""]
)
def test_an_unknown_path_is_a_404_whatever_its_body(server: Stack, path: str, body: bytes) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = ask(server, "POST", path, body, kind)
    assert (answer.status, answer.error["message"]) == (404, f"Invalid URL (POST {path})")


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
    ("POST", "/v1/assistants", b'{"tools": [{"function": {"parameters": {"a": 1, "a": 2}}}]}', 400,
     "Duplicate parameter: 'a'."),
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
