"""Thousands of hostile requests leave no trace in the server's memory."""

from collections.abc import Iterator
from itertools import islice

from tests.support.hostile.http1 import Connection, ask, check_up, head
from tests.support.hostile.processes import files, memory
from tests.support.stack import Stack
from tests.support.waiting import until

MIB = 1 << 20
JSON = ("content-type", "application/json")

REQUESTS: list[tuple[str, str, bytes | None]] = [
    ("POST", "/v1/threads", b'{"metadata": {"a": "' + b"x" * 100_000 + b'"}}'),
    ("POST", "/v1/threads", b"[" * 100_000),
    ("POST", "/v1/threads", b'{"a": ' + b'{"a":' * 50 + b"1" + b"}" * 51),
    ("POST", "/v1/threads", b"{%s}" % b",".join(b'"k%d":1' % key for key in range(5_000))),
    ("POST", "/v1/threads", b'{"metadata": {"\\ud800": "\xff"}}'),
    ("POST", "/v1/threads", b'{"messages": [%s]}' % b",".join([b"{}"] * 1_000)),
    ("POST", "/v1/assistants", b'{"model": 5}'),
    ("POST", "/v1/assistants", b'{"model": "m", "temperature": 1e400}'),
    ("POST", "/v1/threads/t/runs", b'{"assistant_id": "x", "stream": true}'),
    ("POST", "/v1/threads/t/runs/r/submit_tool_outputs", b'{"tool_outputs": [1], "stream": true}'),
    ("GET", "/v1/threads/" + "a" * 10_000, None),
    ("GET", "/v1/threads/t?thread_id=x", None),
    ("GET", "/v1/assistants?limit=x&" + "a" * 5_000, None),
    ("GET", "/v1/assistants?after=%00%ff", None),
    ("DELETE", "/v1/threads/%2F%2e%2e", None),
    ("PUT", "/v1/threads", b"x" * 1_000),
    ("GET", "/" + "b" * 1_000, None),
]


PART = b'{"type": "text", "text": "' + b"x" * 250_000 + b'"}'
LARGE = b'{"role": "%s", "content": [' + b",".join([PART] * 8) + b"]}"


def _send(server: Stack, count: int) -> None:
    for method, path, body in islice(_forever(), count):
        ask(server, method, path, body, [("grpc-timeout", "1n"), ("x-edge-body-keys", "v61")])
    # And some whose answer nobody waits for.
    for _ in range(count // 20):
        with Connection(server) as connection:
            connection.send(head("POST", "/v1/threads", [JSON, ("content-length", "100")]), b"{")


def _forever() -> Iterator[tuple[str, str, bytes | None]]:
    while True:
        yield from REQUESTS


async def test_memory_stays_flat(island: Stack) -> None:
    _send(island, 500)
    used, opened = memory(island), files(island)
    _send(island, 2_000)
    check_up(island)
    grown = [now - then for now, then in zip(memory(island), used, strict=True)]
    # Less than the bodies of those requests alone.
    assert max(grown) < 32 * MIB, grown

    def closed() -> bool:
        return max(now - then for now, then in zip(files(island), opened, strict=True)) < 20

    # The last clients that went away may still be seen off.
    await until(closed)


def test_what_is_refused_is_not_kept(island: Stack) -> None:
    """Neither what is no valid request nor what names no thread, until garbage is collected."""

    def send(count: int) -> None:
        for role in (b"user", b"nobody"):
            for _ in range(count):
                ask(island, "POST", "/v1/threads/thread_1/messages", LARGE % role, [JSON])

    send(5)
    used, _ = memory(island)
    send(40)
    now, _ = memory(island)
    # Less than the bodies of those requests alone.
    assert now - used < 64 * MIB
