"""Bodies that are no JSON, not quite JSON, or far too much of it."""

import gzip
import json
from collections.abc import Iterator

import pytest

from tests.support.hostile.http1 import Answer, ask, check_up
from tests.support.stack import Stack


@pytest.fixture(autouse=True)
def up(server: Stack) -> Iterator[None]:
    """The server does its work after each of these tests."""
    yield
    check_up(server)


def _assistant(key: str, value: bytes) -> bytes:
    return b'{"model": "m", "%s": %s}' % (key.encode(), value)


def _function(parameters: bytes) -> bytes:
    function = b'{"name": "f", "parameters": %s}' % parameters
    return _assistant("tools", b'[{"type": "function", "function": %s}]' % function)


def _message(content: bytes) -> bytes:
    return b'{"messages": [{"role": "user", "content": %s}]}' % content


def _objects(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def _lists(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("levels", [100, 1_000, 100_000])
def test_deep_nesting(server: Stack, levels: int) -> None:
    for nested in (_objects(levels), _lists(levels), b"[" * levels, b'{"a":' * levels):
        for path, body in (
            ("/v1/assistants", nested),
            ("/v1/assistants", _function(nested)),
            ("/v1/assistants", _assistant("metadata", nested)),
            ("/v1/assistants", _assistant("response_format", nested)),
            ("/v1/assistants", _assistant("unknown", nested)),
            ("/v1/threads", _message(nested)),
        ):
            assert ask(server, "POST", path, body).status == 400


def test_how_deep_parameters_may_nest(server: Stack) -> None:
    for nested in (_objects(30), b'{"a":' + _lists(29) + b"}"):
        answer = ask(server, "POST", "/v1/assistants", _function(nested))
        kept = answer.body["tools"][0]["function"]["parameters"]
        assert json.dumps(kept, separators=(",", ":")).encode() == nested
    for nested, message in (
        (_objects(31), "nested more than 30 levels"),
        (b'{"a":' + _lists(31) + b"}", "nested more than 30 levels"),
        (_objects(40), "nested too deeply"),
        (_objects(90), "nested too deeply"),
    ):
        answer = ask(server, "POST", "/v1/assistants", _function(nested))
        assert (answer.status, message in answer.error["message"]) == (400, True)


def test_how_many_values_free_json_may_have(server: Stack) -> None:
    store = ask(server, "POST", "/v1/vector_stores", b"{}").body["id"]
    search = f"/v1/vector_stores/{store}/search"
    many = [_numbers(20_001), b"[" + b",".join([_numbers(150)] * 150) + b"]", _keys(20_001)]
    for values in many:
        listed = b'{"type": "in", "key": "k", "value": %s}' % values
        for path, body in (
            (search, b'{"query": %s}' % values),
            (search, b'{"query": "q", "filters": %s}' % listed),
            ("/v1/assistants", _function(b'{"a": %s}' % values)),
            (f"/v1/vector_stores/{store}", b'{"expires_after": %s}' % values),
            (f"/v1/vector_stores/{store}/files", b'{"file_id": "f", "attributes": %s}' % values),
        ):
            assert ask(server, "POST", path, body).status == 400, path
    answer = ask(server, "POST", "/v1/assistants", _function(b'{"a": %s}' % _numbers(20_000)))
    assert "more than 20000 values" in answer.error["message"]
    answer = ask(server, "POST", "/v1/assistants", _function(b'{"a": %s}' % _numbers(19_999)))
    assert answer.status == 200


def _numbers(count: int) -> bytes:
    return b"[" + b",".join([b"1"] * count) + b"]"


def _keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%d":1' % number for number in range(count)) + b"}"


UNSTORABLE = [rb"\u0000", b"\0", rb"a\u0000b"]
NO_TEXT = [rb"\ud800", rb"\udc00", rb"\ude00\ud83d", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80"]
NO_TEXT += [b"\xf4\x90\x80\x80", b"\xe2\x82", rb"\u12", b"\\"]


@pytest.mark.parametrize("text", UNSTORABLE + NO_TEXT)
def test_text_that_is_none(server: Stack, text: bytes) -> None:
    for path, body in (
        ("/v1/assistants", _assistant("name", b'"%s"' % text)),
        ("/v1/assistants", _assistant(text.decode("latin-1"), b"1")),
        ("/v1/assistants", _function(b'{"%s": 1}' % text)),
        ("/v1/assistants", _function(b'{"a": ["%s"]}' % text)),
        ("/v1/threads", b'{"metadata": {"a": "%s"}}' % text),
        ("/v1/threads", b'{"metadata": {"%s": "a"}}' % text),
        ("/v1/threads", b'{"%s": "a"}' % text),
        ("/v1/threads", _message(b'"%s"' % text)),
        ("/v1/threads", _message(b'[{"type": "text", "text": "%s"}]' % text)),
        ("/v1/threads", _message(b'[{"%s": "text", "text": ""}]' % text)),
    ):
        assert ask(server, "POST", path, body).status == 400, body


@pytest.mark.parametrize("text", ["😀", "\x7f", "\ufeff", "\ufffe", "e\u0301", "\u202e", "\x1b[2J"])
def test_text_that_is_odd_is_kept(server: Stack, text: str) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"metadata": {text: text}}, ensure_ascii=ascii_only).encode()
        assert ask(server, "POST", "/v1/threads", body).body["metadata"] == {text: text}


NUMBERS = [b"NaN", b"Infinity", b"-Infinity", b'"NaN"', b'"-Infinity"', b"1e400", b"-1e400"]
NUMBERS += [b"1" * 400, b"-" + b"9" * 5_000, b"0x10", b"01", b".5", b"+1", b"1e", b"--1", b"1.2.3"]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: repr(number[:12]))
def test_numbers_that_are_none(server: Stack, number: bytes) -> None:
    run = b'{"assistant_id": "asst_x", "%s": %s}'
    for path, body in (
        ("/v1/assistants", _assistant("temperature", number)),
        ("/v1/assistants", _assistant("top_p", number)),
        ("/v1/assistants", _assistant("response_format", number)),
        ("/v1/threads/t/runs", run % (b"max_prompt_tokens", number)),
        ("/v1/threads/t/runs", run % (b"stream", number)),
        ("/v1/threads/t/runs", run % (b"truncation_strategy", b'{"type": %s}' % number)),
    ):
        assert ask(server, "POST", path, body).status in (400, 404), body
    if not number.startswith(b'"'):
        assert ask(server, "POST", "/v1/assistants", _function(b'{"a": %s}' % number)).status == 400
    query = number.replace(b'"', b"%22").replace(b"+", b"%2B")
    # In a query, a number is read as people write it.
    if number not in (b"01", b"+1"):
        assert ask(server, "GET", b"/v1/assistants?limit=" + query).status == 400


@pytest.mark.parametrize(
    ("number", "kept"),
    [(b"-0", "0"), (b"1e-400", "0"), (b"1.0", "1"), (b"1E2", "100"), (b"1e300", "1e+300")],
)
def test_numbers_at_the_edge(server: Stack, number: bytes, kept: str) -> None:
    answer = ask(server, "POST", "/v1/assistants", _function(b'{"a": %s}' % number))
    assert json.dumps(answer.body["tools"][0]["function"]["parameters"]) == f'{{"a": {kept}}}'


def test_floats_for_integers(server: Stack) -> None:
    assistant = ask(server, "POST", "/v1/assistants", b'{"model": "m"}').body["id"]
    body = '{"assistant_id": "%s", "max_prompt_tokens": %s}'
    for number, status in (("256.5", 400), ("256.0", 404), ("-1", 400), ("2147483648", 400)):
        run = (body % (assistant, number)).encode()
        assert ask(server, "POST", "/v1/threads/t/runs", run).status == status, number


WHOLE = [b"[]", b'""', b'"{}"', b"1", b"-1", b"null", b"true", b"NaN", b"[{}]", b"{}{}", b"{},{}"]
WHOLE += [b"\0", b"{}\0", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"<html>", b"a=b", b"//\n{}"]
WHOLE += [b"{'metadata': {}}", b"{metadata: {}}", b'{"metadata": {}', b'{"metadata": {}]', b"\n"]


@pytest.mark.parametrize("body", WHOLE)
def test_bodies_that_are_no_object(server: Stack, body: bytes) -> None:
    answer = ask(server, "POST", "/v1/threads", body)
    assert answer.status == 400
    assert answer.error["message"].startswith("We could not parse the body of your request")


WRONG = [
    b"[]",
    b"{}",
    b'""',
    b"5",
    b"true",
    b"[[]]",
    b"[null]",
    b"[5]",
    b'{"a": {}}',
    b'[{"": ""}]',
]


@pytest.mark.parametrize("value", WRONG)
def test_values_of_wrong_types_anywhere(server: Stack, value: bytes) -> None:
    for path, names in (
        ("/v1/assistants", "model name instructions tools tool_resources metadata temperature"),
        ("/v1/assistants", "response_format top_p description reasoning_effort"),
        ("/v1/threads", "messages tool_resources metadata"),
        ("/v1/threads/t/messages", "role content attachments metadata"),
        ("/v1/threads/t/runs", "assistant_id additional_messages tools tool_choice stream"),
        ("/v1/threads/t/runs", "truncation_strategy parallel_tool_calls max_completion_tokens"),
        ("/v1/threads/runs", "assistant_id thread tools stream model"),
        ("/v1/threads/t/runs/r/submit_tool_outputs", "tool_outputs stream"),
    ):
        for name in names.split():
            ask(server, "POST", path, b'{"%s": %s}' % (name.encode(), value))


def test_keys_that_are_repeated_or_unknown(server: Stack) -> None:
    for body, message in (
        (b'{"metadata": {}, "metadata": {}}', "Duplicate parameter: 'metadata'."),
        (rb'{"metadata": {}, "meta\u0064ata": {}}', "Duplicate parameter: 'metadata'."),
        (b'{"metadata": null, "metadata": {"a": "b"}}', "Duplicate parameter: 'metadata'."),
        (b'{"update_mask": "metadata"}', "Unknown parameter: 'update_mask'."),
        (b'{"toolResources": {}}', "Unknown parameter: 'toolResources'."),
        (b'{"metadata": {}, "x": 1, "x": 2}', "Unknown parameter: 'x'."),
    ):
        answer = ask(server, "POST", "/v1/threads", body)
        assert (answer.status, answer.error["message"]) == (400, message)


TWO_MIB = 2 << 20
BIG = {
    "one metadata value": b'{"metadata": {"a": "%s"}}' % (b"x" * TWO_MIB),
    "one text": _message(b'"%s"' % (b"x" * TWO_MIB)),
    "escapes": _message(b'"%s"' % (rb"\"" * (TWO_MIB // 2))),
    "no JSON": b"\0" * TWO_MIB,
    "spaces, then none": b" " * TWO_MIB + b"x",
    "many keys": b"{%s}" % b",".join(b'"k%d":1' % key for key in range(TWO_MIB // 11)),
    "one key many times": b"{%s}" % b",".join([b'"metadata":{}'] * (TWO_MIB // 14)),
    "many pairs": b'{"metadata":{%s}}' % b",".join(b'"%d":""' % key for key in range(200_000)),
    "a long key": b'{"%s": 1}' % (b"k" * TWO_MIB),
    "a long number": _assistant("temperature", b"1" * TWO_MIB),
    "many messages": b'{"messages": [%s]}' % b",".join([b"{}"] * (TWO_MIB // 3)),
    "quotes": b'{"metadata": {"a": "%s' % (b'"' * TWO_MIB),
    "braces": b"{" * TWO_MIB,
}


@pytest.mark.parametrize("name", BIG)
def test_two_mebibytes_of_nonsense(server: Stack, name: str) -> None:
    answer = ask(server, "POST", "/v1/threads", BIG[name])
    assert (answer.status, len(answer.data) < 1_000) == (400, True)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "OPTIONS"])
def test_bodies_where_none_belongs(server: Stack, method: str) -> None:
    for body in (b"{}", b"\0", b'{"thread_id": "x"}', BIG["one text"]):
        assert ask(server, method, "/v1/threads/thread_x", body).status in (400, 404)


TYPES = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png"]
TYPES += ["application/json; charset=utf-16", "application/grpc-webx", "application/grpcx", "\t;;"]
TYPES += ["application/grpc; charset=utf-8", "application/grpc-web+json", "application/GRPC"]
TYPES += [
    "application/grpc-web; charset=utf-8",
    "application/grpc-web-text+",
    "application/Grpc-web",
]


@pytest.mark.parametrize("kind", TYPES)
def test_content_types_are_not_looked_at(server: Stack, kind: str) -> None:
    def post(body: bytes) -> Answer:
        return ask(server, "POST", "/v1/threads", body, [("content-type", kind)])

    assert post(b'{"metadata": {"a": "b"}}').body["metadata"] == {"a": "b"}
    assert post(b"a=b").status == 400
    assert post(b'{"foo": 1}').error["message"] == "Unknown parameter: 'foo'."


@pytest.mark.parametrize("coding", ["gzip", "br, gzip", "deflate", "identity", "x"])
def test_content_encodings_are_not_looked_at(server: Stack, coding: str) -> None:
    headers = [("content-encoding", coding)]
    body = b'{"metadata": {"a": "b"}}'
    assert ask(server, "POST", "/v1/threads", body, headers).body["metadata"] == {"a": "b"}
    assert ask(server, "POST", "/v1/threads", gzip.compress(body), headers).status == 400
