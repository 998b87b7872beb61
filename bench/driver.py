"""Clients in Python, in a process of their own: those of streams, and of any load without h2load.

    python -m bench.driver    # reads one job, a line of JSON, and prints one line of JSON

Jobs are the functions in JOBS; `bench.load.Driver` starts them.
"""

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
import uvloop

LIMIT: Final = 2**20
"""Bytes that a connection reads ahead."""

RUN: Final = re.compile(rb'"id":"(run_\w+)".*?"thread_id":"(thread_\w+)"')
"""The ids of a run and of its thread, in an event that shows the run."""

DELTA: Final = b"event: thread.message.delta\n"
STAMP: Final = re.compile(rb'"value":"(\d+) "')
"""When the model has sent a piece."""

Job = Mapping[str, Any]


class Unanswered(Exception):
    """An answer is not what it should be; the message holds it."""


class Connection:
    """HTTP/1.1 with a server, one call after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, call: Mapping[str, Any]) -> Self:
        """Connects to the server of a call."""
        url = urlsplit(call["urls"][0])
        return cls(*await asyncio.open_connection(url.hostname, url.port, limit=LIMIT))

    async def answer(self, request: bytes) -> AsyncGenerator[bytes, None]:
        """Sends a request, and yields the body of its answer as it comes. An error ends all."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Unanswered(f"{head.decode()}{(await self._reader.read(LIMIT)).decode()}")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
        if b"content-length" in fields:
            yield await self._reader.readexactly(int(fields[b"content-length"]))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()


def requests_of(call: Mapping[str, Any]) -> list[bytes]:
    """Returns the bytes that ask for each URL of a call, by the first of its bodies."""
    body = call["bodies"][0].encode("latin-1") if call["bodies"] else b""
    headers = "".join(f"{name}: {value}\r\n" for name, value in call["headers"].items())
    if body:
        headers += f"content-length: {len(body)}\r\n"
    requests = []
    for url in map(urlsplit, call["urls"]):
        target = f"{url.path}?{url.query}" if url.query else url.path
        verb = "POST" if body else "GET"
        head = f"{verb} {target} HTTP/1.1\r\nhost: {url.netloc}\r\n{headers}\r\n"
        requests.append(head.encode() + body)
    return requests


async def load(job: Job) -> dict[str, Any]:
    """Makes `calls` calls by as many `clients` at once."""
    clients = [await _client(job["call"], number) for number in range(job["clients"])]
    latencies: list[float] = []
    left, body_bytes = job["calls"], 0

    async def repeat(ask: Callable[[int], Awaitable[int]]) -> None:
        nonlocal left, body_bytes
        number = 0
        while left:
            left -= 1
            start = time.perf_counter()
            received = await ask(number)
            latencies.append(time.perf_counter() - start)
            body_bytes += received
            number += 1

    start = time.perf_counter()
    await asyncio.gather(*map(repeat, clients))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "latencies": latencies, "body_bytes": body_bytes}


async def _client(call: Mapping[str, Any], client: int) -> Callable[[int], Awaitable[int]]:
    """Returns what makes a client's call of a number, and returns the bytes of its answer."""
    if bodies := call["bodies"]:
        call = {**call, "bodies": [bodies[client % len(bodies)]]}
    if call["protocol"] == "grpc":
        return _grpc_client(call)
    connection, requests = await Connection.open(call), requests_of(call)

    async def ask(number: int) -> int:
        request = requests[number % len(requests)]
        return sum([len(data) async for data in connection.answer(request)])

    return ask


def _grpc_client(call: Mapping[str, Any]) -> Callable[[int], Awaitable[int]]:
    # Here, as it takes longer to load than most drivers have to do.
    import grpc

    url = urlsplit(call["urls"][0])
    # Else all clients share one connection.
    channel = grpc.aio.insecure_channel(url.netloc, [("grpc.use_local_subchannel_pool", 1)])
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(url.path)
    message = call["bodies"][0].encode("latin-1")[5:]

    async def ask(_: int) -> int:
        return len(await method(message)) + 5

    return ask


async def first(job: Job) -> dict[str, Any]:
    """Makes `calls` calls, one after the other: how long until the `marker` is in the answer."""
    connection, requests = await Connection.open(job["call"]), requests_of(job["call"])
    marker = job["marker"].encode()
    seconds = []
    for number in range(job["calls"]):
        start, found, text = time.perf_counter(), None, b""
        async for data in connection.answer(requests[number % len(requests)]):
            if found is None and marker in (text := text + data):
                found = time.perf_counter() - start
        if found is None:
            raise Unanswered(f"no {job['marker']} in {text.decode()}")
        seconds.append(found)
    return {"seconds": seconds}


async def streams(job: Job) -> dict[str, Any]:
    """Reads as many `streams` at once to their ends, and counts the `marker` in each."""
    connections = [await Connection.open(job["call"]) for _ in range(job["streams"])]
    (request,) = requests_of(job["call"])
    marker = job["marker"].encode()

    async def read(connection: Connection) -> int:
        return b"".join([data async for data in connection.answer(request)]).count(marker)

    start = time.perf_counter()
    counts = await asyncio.gather(*map(read, connections))
    return {"seconds": time.perf_counter() - start, "counts": counts}


async def hold(job: Job) -> None:
    """Keeps as many `streams` open until the standard input ends; prints when each has begun."""
    (request,) = requests_of(job["call"])
    begun = asyncio.Semaphore(0)

    async def read() -> None:
        connection = await Connection.open(job["call"])
        try:
            begins = True
            async for _ in connection.answer(request):
                if begins:
                    begun.release()
                    begins = False
        finally:
            connection.close()

    tasks = [asyncio.create_task(read()) for _ in range(job["streams"])]
    opened = asyncio.create_task(_acquire(begun, job["streams"]))
    ended = asyncio.gather(*tasks)
    either: set[asyncio.Future[Any]] = {opened, ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not opened.done():
        await ended
    _print({"open": job["streams"]})
    await asyncio.to_thread(sys.stdin.read)
    ended.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _acquire(semaphore: asyncio.Semaphore, times: int) -> None:
    for _ in range(times):
        await semaphore.acquire()


async def follow(job: Job) -> dict[str, Any]:
    """Starts as many `streams` at once, and reads each from the server at `other`, too.

    Returns the seconds from when the model has sent a piece, as it says, until it was there.
    """
    (request,) = requests_of(job["call"])
    own, other = list[float](), list[float]()

    async def start() -> None:
        connection = await Connection.open(job["call"])
        following: asyncio.Task[None] | None = None
        async for event in _events(connection, request):
            if following is None and (found := RUN.search(event)):
                run, thread = (each.decode() for each in found.groups())
                url = f"{job['other']}/threads/{thread}/runs/{run}/events"
                following = asyncio.create_task(read({**job["call"], "urls": [url], "bodies": []}))
            _note(event, own)
        if following is None:
            raise Unanswered("no run in a stream")
        await following

    async def read(call: Mapping[str, Any]) -> None:
        (asked,) = requests_of(call)
        async for event in _events(await Connection.open(call), asked):
            _note(event, other)

    await asyncio.gather(*(start() for _ in range(job["streams"])))
    if len(own) != len(other):
        raise Unanswered(f"{len(own)} pieces here, and {len(other)} there")
    return {"own": sorted(own), "other": sorted(other)}


async def _events(connection: Connection, request: bytes) -> AsyncGenerator[bytes, None]:
    text = b""
    async for data in connection.answer(request):
        *events, text = (text + data).split(b"\n\n")
        for event in events:
            yield event


def _note(event: bytes, seconds: list[float]) -> None:
    if DELTA in event and (sent := STAMP.search(event)):
        seconds.append((time.monotonic_ns() - int(sent[1])) / 1e9)


JOBS: Final[dict[str, Callable[[Job], Awaitable[dict[str, Any] | None]]]] = {
    "load": load,
    "first": first,
    "streams": streams,
    "hold": hold,
    "follow": follow,
}


def _print(result: dict[str, Any]) -> None:
    print(orjson.dumps(result).decode(), flush=True)


async def main() -> None:
    """Does the job."""
    job = orjson.loads(sys.stdin.readline())
    result = await JOBS[job["job"]](job)
    if result is not None:
        _print(result)


if __name__ == "__main__":
    uvloop.run(main())
