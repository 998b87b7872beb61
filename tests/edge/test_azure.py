"""Paths as Azure's clients write them: they lead where the API's own do, and nowhere else."""

import http.client
import json
from typing import Any

import pytest

from tests.support.hostile.http1 import ask
from tests.support.model_server import ModelServer
from tests.support.schemas import document
from tests.support.script import Answer
from tests.support.stack import Stack

PREFIXES = ["/v1", "/openai", "/openai/v1"]
VERSION = "api-version=2024-05-01-preview"
JSON = b"{}"

prefixes = pytest.mark.parametrize("prefix", PREFIXES)


def _thread(server: Stack, prefix: str = "/v1", **given: Any) -> str:
    answer = ask(server, "POST", f"{prefix}/threads?{VERSION}", json.dumps(given).encode())
    assert answer.status == 200, answer
    return str(answer.body["id"])


@prefixes
@pytest.mark.parametrize("query", ["", "?", f"?{VERSION}", "?api-version=preview"])
def test_the_same_objects_under_every_prefix(server: Stack, prefix: str, query: str) -> None:
    thread = _thread(server, metadata={"a": "b"})
    path = f"{prefix}/threads/{thread}{query}"
    key = [("api-key", "none")]
    assert ask(server, "GET", path, headers=key).body["metadata"] == {"a": "b"}
    changed = ask(server, "POST", path, b'{"metadata": {"c": "d"}}', key)
    assert (changed.status, changed.body["metadata"]) == (200, {"c": "d"})
    messages = f"{prefix}/threads/{thread}/messages{query}"
    message = ask(server, "POST", messages, b'{"role": "user", "content": "x"}', key).body
    assert ask(server, "GET", messages).body["data"] == [message]
    assert ask(server, "DELETE", path).body["deleted"] is True
    assert ask(server, "GET", f"/v1/threads/{thread}").status == 404


@prefixes
@pytest.mark.parametrize(
    "query",
    [
        "{version}&limit=2&order=asc&after={after}",
        "limit=2&{version}&order=asc&after={after}",
        "limit=2&order=asc&after={after}&{version}",
        "{version}&limit=2&order=asc&api-version&{version}&after={after}&api-version=",
    ],
)
def test_other_parameters_are_kept(server: Stack, prefix: str, query: str) -> None:
    history = [{"role": "user", "content": text} for text in "12345"]
    path = f"{prefix}/threads/{_thread(server, messages=history)}/messages"
    after = ask(server, "GET", f"{path}?order=asc&limit=1").body["last_id"]
    page = ask(server, "GET", f"{path}?{query.format(version=VERSION, after=after)}").body
    texts = [message["content"][0]["text"]["value"] for message in page["data"]]
    assert (texts, page["has_more"]) == (["2", "3"], True)


@prefixes
@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"{VERSION}&foo=1", "Unknown parameter: 'foo'."),
        (f"limit=1&{VERSION}&limit=2", "Duplicate parameter: 'limit'."),
        ("api-versions=1", "Unknown parameter: 'api-versions'."),
        ("x-api-version=1", "Unknown parameter: 'x-api-version'."),
        ("api_version=1", "Unknown parameter: 'api_version'."),
        ("foo=api-version", "Unknown parameter: 'foo'."),
        (f"b=1&{VERSION}&a=1", "Unknown parameter: 'b'."),
    ],
)
def test_other_parameters_are_refused_as_ever(
    server: Stack, prefix: str, query: str, message: str
) -> None:
    answer = ask(server, "GET", f"{prefix}/assistants?{query}")
    assert (answer.status, answer.error["message"]) == (400, message)


@prefixes
def test_the_value_of_a_parameter_may_be_the_name(server: Stack, prefix: str) -> None:
    path = f"{prefix}/threads/{_thread(server)}/messages?{VERSION}&run_id=api-version"
    answer = ask(server, "GET", path)
    assert (answer.status, answer.body["data"]) == (200, [])


BODIES = {
    b'{"model": "m", "foo": 1}': "Unknown parameter: 'foo'.",
    b'{"model": 5}': "Invalid type for 'model': expected a string, but got an integer instead.",
    b"{'model': 'm'}": "We could not parse the body of your request: it must be a JSON object.",
}


@prefixes
@pytest.mark.parametrize("body", BODIES)
def test_bodies_are_read_under_every_prefix(server: Stack, prefix: str, body: bytes) -> None:
    answer = ask(server, "POST", f"{prefix}/assistants?{VERSION}", body)
    assert (answer.status, answer.error["message"]) == (400, BODIES[body])


ELSEWHERE = [
    "/openai",
    "/openai/",
    "/openai/v1",
    "/openai/v1/",
    "/openai/x",
    "/openai/v2/threads",
    "/openai//threads",
    "/openai/openai/threads",
    "/openai/v1/openai/threads",
    "/openai/v1/v1/threads",
    "/openai/healthz",
    "/openai/deployments/gpt-4/chat/completions",
    "/openai/../v1/threads",
    "/openai%2Fthreads",
    "/openaix/threads",
    "/OpenAI/threads",
    "/v1/openai/threads",
    "//openai/threads",
    "/threads",
    "/x",
]


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_errors_show_the_path_that_was_sent(server: Stack, method: str, path: str) -> None:
    for query in ("", f"?{VERSION}", "?a=b"):
        answer = ask(server, method, path + query, JSON if method == "POST" else None)
        assert answer.status == 404
        assert answer.error["message"] == f"Invalid URL ({method} {path})"


@pytest.mark.parametrize("prefix", ["/openai", "/openai/v1"])
def test_a_path_without_a_route_is_a_404_whatever_its_body(server: Stack, prefix: str) -> None:
    kind = [("content-type", "multipart/form-data; boundary=x")]
    answer = ask(server, "POST", f"{prefix}/images/edits?{VERSION}", b"--x\r\n", kind)
    assert answer.status == 404
    assert answer.error["message"] == f"Invalid URL (POST {prefix}/images/edits)"


@prefixes
def test_a_look_at_a_run_says_when_to_look_again(
    server: Stack, models: ModelServer, prefix: str
) -> None:
    model = json.dumps({"model": models.script(Answer("Hello."))}).encode()
    assistant = ask(server, "POST", "/v1/assistants", model).body["id"]
    body = json.dumps({"assistant_id": assistant}).encode()
    run = ask(server, "POST", f"{prefix}/threads/runs?{VERSION}", body).body
    looked = ask(server, "GET", f"{prefix}/threads/{run['thread_id']}/runs/{run['id']}?{VERSION}")
    assert (looked.status, looked.headers["openai-poll-after-ms"]) == (200, "250")
    listed = ask(server, "GET", f"{prefix}/threads/{run['thread_id']}/runs?{VERSION}")
    assert "openai-poll-after-ms" not in listed.headers


ROUTES = [
    (method.upper(), path)
    for path, methods in document()["paths"].items()
    for method in methods
    if path.count("{") == 1 and path.startswith("/threads/")
]


@pytest.mark.parametrize("prefix", ["/openai", "/openai/v1"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_query_turns_a_path_to_another_object(
    server: Stack, prefix: str, method: str, path: str
) -> None:
    mine, other = _thread(server), _thread(server, metadata={"is": "other"})
    for name in ("thread_id", "threadId", "%74hread_id"):
        for query in (f"{VERSION}&{name}={other}", f"{name}={other}&{VERSION}"):
            asked = prefix + path.format(thread_id=mine) + "?" + query
            answer = ask(server, method, asked, JSON if method == "POST" else None)
            assert answer.status == 400, answer
    assert ask(server, "GET", f"/v1/threads/{other}").body["metadata"] == {"is": "other"}


LONG = ["&" * 30_000, "api-version&" * 3_000, "api-version=" + "a" * 50_000, "=&" * 10_000]


@prefixes
@pytest.mark.parametrize("query", LONG, ids=lambda query: query[:12])
def test_queries_that_are_long(server: Stack, prefix: str, query: str) -> None:
    answer = ask(server, "GET", f"{prefix}/assistants?{query}&{VERSION}&limit=1")
    assert answer.status in (200, 400)
    if "=&" not in query:
        assert (answer.status, len(answer.body["data"]) <= 1) == (200, True)


def test_health_is_asked_with_a_version_too(server: Stack) -> None:
    connection = http.client.HTTPConnection(server.env["ASSISTANTS_HTTP_ADDRESS"], timeout=30)
    connection.request("GET", f"/healthz?{VERSION}")
    assert connection.getresponse().status == 200
    connection.close()
