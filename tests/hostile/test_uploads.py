"""Uploads that no decent client sends: each is refused, and nothing of it stays."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile.http1 import Answer, Connection, check_up, head
from tests.support.hostile.processes import pids
from tests.support.model_server import ModelServer
from tests.support.stack import Stack
from tests.support.waiting import until

FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
PURPOSE = b'Content-Disposition: form-data; name="purpose"\r\n\r\nassistants'
BOUNDARY = b"--b\r\n"
GOOD = BOUNDARY + PURPOSE + b"\r\n" + BOUNDARY + FILE + b"text\r\n--b--\r\n"
FORM = ("content-type", "multipart/form-data; boundary=b")


@pytest.fixture(scope="module")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own, as its files are looked at."""
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        yield stack.start()


def kept(server: Stack) -> tuple[list[str], int]:
    """The blobs on the disk, those that are being written too, and how many files there are."""
    folder = Path(server.env["ASSISTANTS_DATA_DIR"]) / "files"
    with urllib.request.urlopen(f"{server.base_url}/files") as answer:
        files = json.load(answer)["data"]
    return sorted(path.name for path in folder.rglob("*") if path.is_file()), len(files)


@pytest.fixture(autouse=True)
async def nothing_stays(server: Stack) -> "object":
    before = kept(server)
    yield
    await until(lambda: kept(server) == before)
    check_up(server)


def send(server: Stack, body: bytes, kind: tuple[str, str | bytes] = FORM) -> Answer:
    with Connection(server) as connection:
        fields = [kind, ("content-length", str(len(body)))]
        connection.send(head("POST", "/v1/files", fields), body)
        return connection.read("POST").check()


def part(header: bytes, value: bytes = b"x") -> bytes:
    return BOUNDARY + header + b"\r\n\r\n" + value + b"\r\n"


def named(name: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"'


REFUSED = {
    "empty": b"",
    "no boundary at all": b"text",
    "only the end": b"--b--\r\n",
    "only a boundary": BOUNDARY,
    "no end": GOOD.removesuffix(b"\r\n--b--\r\n"),
    "half an end": GOOD.removesuffix(b"-\r\n"),
    "another end": GOOD.replace(b"--b--", b"--c--"),
    "another boundary": GOOD.replace(b"--b\r\n", b"--c\r\n"),
    "something behind a boundary": GOOD.replace(b"--b\r\n", b"--b x\r\n"),
    "bare newlines": GOOD.replace(b"\r\n", b"\n"),
    "something ahead of the first": b"x" + GOOD,
    "a large preamble": b"x" * (2 << 20),
    "no headers": BOUNDARY + b"\r\ntext\r\n--b--",
    "a header without a colon": part(b"nothing") + b"--b--",
    "a header of a megabyte": part(named(b"a" * (1 << 20))) + b"--b--",
    "a header without end": BOUNDARY + b"a" * (1 << 20),
    "a hundred headers": part(b"a: b\r\n" * 100 + named(b"file")) + b"--b--",
    "a name of no encoding": part(named(b"\xff\xfe") + b'; filename="a"') + b"--b--",
    "a name that is no field": part(named(b"data")) + b"--b--",
    "a name of the server's": part(named(b"bytes"), b"5") + b"--b--",
    "a nested name": part(named(b"expires_after[a][b]")) + b"--b--",
    "a bare nested name": part(named(b"expires_after")) + b"--b--",
    "a value of a megabyte": part(named(b"purpose"), b"x" * (1 << 20)) + b"--b--",
    "a value of no encoding": part(named(b"purpose"), b"\xff") + GOOD.replace(PURPOSE, named(b"x")),
    "two files": BOUNDARY + FILE + b"x\r\n" + GOOD,
    "two purposes": part(PURPOSE.partition(b"\r\n")[0]) + GOOD,
    "ten thousand parts": part(named(b"a")) * 10_000 + b"--b--",
    "ten thousand files": (BOUNDARY + FILE + b"x\r\n") * 10_000 + b"--b--",
    "a file without a name": GOOD.replace(b'; filename="a.txt"', b""),
    "a file with an empty name": GOOD.replace(b"a.txt", b""),
    "a name with half a surrogate": GOOD.replace(
        b'filename="a.txt"', b"filename*=unicode_escape''%5cud800"
    ),
    "a name of a codec of Python's": GOOD.replace(b'filename="a.txt"', b"filename*=cp037''%c1"),
    "a name with a NUL": GOOD.replace(b"a.txt", b"a\0.txt"),
    "a name of a thousand characters": GOOD.replace(b"a.txt", b"a" * 1000),
    "numbers that are none": part(named(b"expires_after[seconds]"), b"1e9") + GOOD,
    "numbers of Python's": part(named(b"expires_after[anchor]"), b"created_at")
    + part(named(b"expires_after[seconds]"), b"3_600")
    + GOOD,
    "numbers that are too large": part(named(b"expires_after[seconds]"), b"9" * 40) + GOOD,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_forms_that_are_none(server: Stack, body: bytes) -> None:
    answer = send(server, body)
    assert answer.status == 400
    assert b"Error(" not in answer.body  # Python's own words


KINDS: dict[str, str | bytes] = {
    "no boundary": "multipart/form-data",
    "an empty boundary": "multipart/form-data; boundary=",
    "a long boundary": f"multipart/form-data; boundary={'b' * 5000}",
    "another kind": "multipart/mixed; boundary=b",
    "a form in a query": "application/x-www-form-urlencoded",
    "nothing of the kind": "text/plain",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_content_types(server: Stack, kind: str | bytes) -> None:
    assert send(server, GOOD, ("content-type", kind)).status == 400


def test_a_content_type_of_grpc(server: Stack) -> None:
    """It is not the edge's, but that of a call that is none."""
    with Connection(server) as connection:
        kind = ("content-type", "application/grpc")
        fields = [kind, ("content-length", str(len(GOOD)))]
        connection.send(head("POST", "/v1/files", fields), GOOD)
        assert connection.read("POST").headers["content-type"].startswith("application/grpc")


async def test_clients_that_leave(server: Stack) -> None:
    """To Envoy, a body that breaks off ends like any other."""
    large = GOOD.replace(b"text", b"x" * (5 << 20))
    for body in (GOOD[:-9], GOOD[:80], large[: 4 << 20]):
        for length in (("content-length", str(len(large))), ("transfer-encoding", "chunked")):
            with Connection(server) as connection:
                connection.send(head("POST", "/v1/files", [FORM, length]))
                if length[0] == "content-length":
                    connection.send(body)
                else:
                    connection.send(f"{len(body):x}\r\n".encode(), body, b"\r\n")
                connection.socket.shutdown(socket.SHUT_WR)


def test_a_form_that_goes_on_behind_its_end(server: Stack) -> None:
    """Nothing more is looked at; but it does not go on for ever."""
    before = kept(server)[1]
    answer = send(server, GOOD + b"epilogue" * 1000)
    assert (answer.status, kept(server)[1]) == (200, before + 1)
    with Connection(server) as connection:
        path = f"/v1/files/{answer.body['id']}"
        connection.send(head("DELETE", path))
        assert connection.read("DELETE").status == 200


def test_an_upload_byte_by_byte(server: Stack) -> None:
    with Connection(server) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.send(head("POST", "/v1/files", [FORM, ("transfer-encoding", "chunked")]))
        for at in range(len(GOOD)):
            connection.send(b"1\r\n" + GOOD[at : at + 1] + b"\r\n")
        connection.send(b"0\r\n\r\n")
        answer = connection.read("POST").check()
        assert (answer.status, answer.body["bytes"]) == (200, 4)
        connection.send(head("DELETE", f"/v1/files/{answer.body['id']}"))
        assert connection.read("DELETE").status == 200


def test_parts_to_what_is_no_upload(server: Stack) -> None:
    """It is refused ahead of the bytes, of which a client may be sending many."""
    body = BOUNDARY + FILE.replace(b"file", b"data", 1) + b"x" * (30 << 20) + b"\r\n--b--"
    with Connection(server) as connection:
        fields = [FORM, ("content-length", str(len(body)))]
        connection.send(head("POST", "/v1/uploads/upload_x/parts", fields), body)
        assert connection.read("POST").check().status == 404
    for path in ("/v1/uploads/../parts", "/v1/uploads//parts", "/v1/uploads/a%2Fb/parts"):
        with Connection(server) as connection:
            fields = [FORM, ("content-length", str(len(GOOD)))]
            connection.send(head("POST", path, fields), GOOD)
            assert connection.read("POST").status in (400, 404), path


def test_an_upload_that_takes_too_long(model_server: ModelServer) -> None:
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_UPLOAD_TIMEOUT": "2",
        "ASSISTANTS_REQUEST_TIMEOUT": "1",
        "ASSISTANTS_KEEP_ALIVE_SECONDS": "0.5",
    }
    with Stack(env) as stack, Connection(stack.start()) as connection:
        connection.send(head("POST", "/v1/files", [FORM, ("content-length", "1000000")]))
        connection.send(GOOD[:50])
        answer = connection.read("POST")
        assert (answer.status, answer.error["message"]) == (
            408,
            "The request did not arrive in time.",
        )
        assert kept(stack) == ([], 0)


def peaks(server: Stack) -> list[int]:
    """The most memory that server and Envoy had since they were last asked, in bytes."""
    found = []
    for pid in pids(server):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        [line] = [line for line in status if line.startswith("VmHWM:")]
        found.append(int(line.split()[1]) << 10)
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return found


def test_memory_is_flat_in_the_size_of_a_file(server: Stack) -> None:
    """Neither what is sent nor what is read is held, at its whole or in good part."""

    def there_and_back(mebibytes: int) -> list[int]:
        peaks(server)
        piece = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
        tail = b"\r\n--b--"
        first = BOUNDARY + PURPOSE + b"\r\n" + BOUNDARY + FILE
        with Connection(server) as connection:
            connection.send(head("POST", "/v1/files", [FORM, ("transfer-encoding", "chunked")]))
            connection.send(b"%x\r\n%s\r\n" % (len(first), first))
            connection.send(*[piece] * mebibytes)
            connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(tail), tail))
            file = connection.read("POST").check().body
            assert file["bytes"] == mebibytes << 20
        with urllib.request.urlopen(f"{server.base_url}/files/{file['id']}/content") as answer:
            count = 0
            while data := answer.read(1 << 20):
                count += len(data)
            assert count == file["bytes"]
        with Connection(server) as connection:
            connection.send(head("DELETE", f"/v1/files/{file['id']}"))
            assert connection.read("DELETE").status == 200
        return peaks(server)

    there_and_back(64)
    small, large = there_and_back(64), there_and_back(400)
    grown = [more - less for less, more in zip(small, large, strict=True)]
    assert max(grown) < 32 << 20, grown
