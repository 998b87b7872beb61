"""Paths, queries and methods: nothing reaches another object than the one that the path names."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.support.hostile.http1 import Answer, ask, check_up
from tests.support.schemas import document
from tests.support.stack import Stack


@pytest.fixture(autouse=True)
def up(server: Stack) -> Iterator[None]:
    """The server does its work after each of these tests."""
    yield
    check_up(server)


def _thread(server: Stack, text: str) -> str:
    body = {"messages": [{"role": "user", "content": text}], "metadata": {"is": text}}
    answer = ask(server, "POST", "/v1/threads", json.dumps(body).encode())
    return str(answer.body["id"])


ROUTES = [
    (method.upper(), path)
    for path, methods in document()["paths"].items()
    for method in methods
    if "{" in path
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_can_be_turned_to_another_object(server: Stack, method: str, path: str) -> None:
    mine, other = _thread(server, "mine"), _thread(server, "other")
    assistant = ask(server, "POST", "/v1/assistants", b'{"model": "m"}').body["id"]
    message = ask(server, "GET", f"/v1/threads/{other}/messages").body["first_id"]
    there = {"thread_id": other, "message_id": message, "assistant_id": assistant}
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    asked = "/v1" + path.format(**{name: "x_1" for name in names} | {"thread_id": mine})
    queries, bodies = [], []
    for name in names:
        value, camel = there.get(name, "x_2"), name.replace("_id", "Id")
        for spelled in (
            name,
            camel,
            quote(name[0]).join(["", name[1:]]),
            f"%{ord(name[0]):x}{name[1:]}",
        ):
            queries += [
                f"?{spelled}={value}",
                f"?{spelled}={value}&{spelled}={value}",
                f"?a&{spelled}=",
            ]
        queries += [
            f"?{name}[]={value}",
            f"?{name}.a={value}",
            f"?;{name}={value}",
            f"?x=1;{name}={value}",
        ]
        for key in (name, camel, name.replace("_", r"\u005f")):
            bodies += [f'{{"{key}": "{value}"}}', f'{{"{key}": null, "{key}": "{value}"}}']
    for query in queries:
        _refused(ask(server, method, asked + query, b"{}" if method == "POST" else None))
    for body in bodies:
        answer = ask(server, method, asked, body.encode())
        if method == "POST":
            _refused(answer)
        else:
            # What has no body may come with one: it is ignored.
            assert answer.status in (200, 400, 404)
            assert other not in answer.data.decode()
    kept = ask(server, "GET", f"/v1/threads/{other}")
    assert kept.body["metadata"] == {"is": "other"}
    listed = ask(server, "GET", f"/v1/threads/{other}/messages").body["data"]
    assert [each["content"][0]["text"]["value"] for each in listed] == ["other"]
    assert ask(server, "GET", f"/v1/threads/{other}/runs").body["data"] == []
    assert ask(server, "GET", f"/v1/assistants/{assistant}").body["model"] == "m"


def _refused(answer: Answer) -> None:
    assert answer.status in (400, 404), answer


ODD = [
    "%2F",
    "%2f",
    "%00",
    "..",
    "%2e%2e",
    ".",
    "%",
    "%%",
    "%zz",
    "%2",
    "%ff%fe",
    "%ed%a0%80",
    "%0a",
]
ODD += [
    "%c0%af",
    "%20",
    "+",
    "*",
    "{thread_id}",
    "a:b",
    "a;b",
    "a,b",
    "~",
    "'",
    "%22",
    "<x>",
    "é",
    "\\",
]
ODD += ["%252F", "..%2f..", "%2F..%2Fassistants", "a%2Fmessages", "%E2%80%AE", "$", "a" * 2_000]
ODD += ["%00" * 500, "%F0%9F%98%80" * 300]


@pytest.mark.parametrize("id", ODD, ids=lambda id: id[:20])
def test_ids_of_any_kind(server: Stack, id: str) -> None:
    paths = ["threads/{}", "assistants/{}", "threads/{}/messages", "threads/t/messages/{}"]
    paths += ["threads/{}/runs/{}/steps/{}", "threads/t/runs/{}"]
    for path in paths:
        for method in ("GET", "POST", "DELETE"):
            answer = ask(
                server, method, "/v1/" + path.replace("{}", id), b"" if method == "POST" else None
            )
            assert answer.status in (400, 404), (method, path)
    for query in ("after", "before", "order", "limit", "run_id", "x"):
        thread = _thread(server, "x")
        assert ask(server, "GET", f"/v1/threads/{thread}/messages?{query}={id}").status in (
            200,
            400,
        )
        assert ask(server, "GET", f"/v1/assistants?{query}={id}").status == 400


def test_an_id_is_not_decoded_twice(server: Stack) -> None:
    thread = _thread(server, "x")
    coded = "".join(f"%{ord(char):02x}" for char in thread)
    assert ask(server, "GET", f"/v1/threads/{coded}").body["id"] == thread
    assert ask(server, "GET", f"/v1/threads/{coded.replace('%', '%25')}").status == 404
    assert ask(server, "GET", f"/v1/threads/{thread}%2Fmessages").status == 404
    assert ask(server, "GET", f"/v1/threads/{thread}%00").status == 404


ELSEWHERE = [
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1//threads",
    "/v2/threads",
    "/V1/threads",
    "/v1/Threads",
    "*",
]
ELSEWHERE += [
    "/v1/../v1/threads",
    "/v1/./threads",
    "/v1%2Fthreads",
    "/v1/threads/a/b",
]
ELSEWHERE += [
    "/assistants.v1.ThreadsService/GetThread",
    "/grpc.health.v1.Health/Check",
    "/healthz/",
]
ELSEWHERE += [
    "/v1/threads#x",
    "/v1/threads/t:cancel",
    "/" + "a" * 50_000,
]
ELSEWHERE += ["/server_info", "/stats", "/config_dump", "/quitquitquit", "/.env", "/?/v1/threads"]


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: path[:40])
def test_paths_that_are_none_of_ours(server: Stack, path: str) -> None:
    for method in ("PUT", "DELETE", "POST"):
        body = None if method == "DELETE" else b"{}"
        answer = ask(server, method, path, body)
        assert answer.status in (400, 404), answer


def test_slashes_at_the_end_do_not_count(server: Stack) -> None:
    for slashes in ("/", "//", "/" * 5_000):
        thread = ask(server, "POST", f"/v1/threads{slashes}", b"{}").body["id"]
        assert ask(server, "GET", f"/v1/threads/{thread}{slashes}").body["id"] == thread


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "LINK", "get", "X"])
def test_methods_that_are_none_of_ours(server: Stack, method: str) -> None:
    for path in (
        "/v1/threads",
        f"/v1/threads/{_thread(server, 'x')}",
        "/v1/assistants?limit=1",
        "/",
    ):
        assert ask(server, method, path).status in (400, 404)


QUERIES = [
    "limit=1&limit=2",
    "limit",
    "limit=",
    "=",
    "=1",
    "&&",
    "&",
    "a" * 50_000,
    "limit=1%00",
    "%00=1",
]
QUERIES += ["order=asc&order=asc", "order=%00", "order=ASC", "limit=1#x", "limit[]=1", "limit=1,2"]
QUERIES += [
    "after=a&before=%ff",
    "%ff=1",
    "%=1",
    "limit=-0",
    "limit=9" + "9" * 400,
    "limit=1e1",
    "&".join(["x=1"] * 5_000),
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:20])
def test_queries_of_any_kind(server: Stack, query: str) -> None:
    thread = _thread(server, "x")
    for path in ("/v1/assistants", f"/v1/threads/{thread}/messages", f"/v1/threads/{thread}/runs"):
        for method in ("GET", "POST", "DELETE"):
            assert ask(server, method, f"{path}?{query}").status in (200, 400, 404)
