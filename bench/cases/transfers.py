"""Uploads and downloads of large files: how fast, and the memory that they take meanwhile."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from bench import processes
from bench.measuring import Bench, Figures
from bench.stack import CallError, Server

MB: Final = 1_000_000
KIB: Final = 1024
BLOCK: Final = bytes(range(256)) * 4096
"""1 MiB of bytes that are sent again and again."""

BOUNDARY: Final = "bench-boundary"
MANY: Final = 8
SAMPLE_SECONDS: Final = 0.02


class Upload:
    """A multipart upload, whose bytes are made while it is sent."""

    def __init__(
        self, server: Server, name: str, size: int, parts: Callable[[], Iterable[bytes]]
    ) -> None:
        """Sends a file of so many bytes, which `parts` yields."""
        disposition = "content-disposition: form-data"
        self._head = (
            f'--{BOUNDARY}\r\n{disposition}; name="purpose"\r\n\r\nassistants\r\n'
            f'--{BOUNDARY}\r\n{disposition}; name="file"; filename="{name}"\r\n\r\n'
        ).encode()
        self._end = f"\r\n--{BOUNDARY}--\r\n".encode()
        self._server = server
        self._size = size
        self._parts = parts

    def send(self) -> str:
        """Returns the id of the file. Raises CallError."""
        headers = {
            "content-type": f"multipart/form-data; boundary={BOUNDARY}",
            "content-length": str(len(self._head) + self._size + len(self._end)),
        }
        with _request(self._server, "POST", "/files", self._body(), headers) as response:
            return str(orjson.loads(response.read())["id"])

    def _body(self) -> Iterator[bytes]:
        yield self._head
        yield from self._parts()
        yield self._end


class Transfers:
    """A file up and down, alone, and then eight of them at once."""

    def __init__(self, bench: Bench) -> None:
        """Prepares nothing: memory that was taken once is not always given back."""
        self._bench = bench
        self._size = bench.sizes.file

    def measure(self) -> Figures:
        """Measures on new servers."""
        return self._measure("one", 1) | self._measure("eight", MANY)

    def _measure(self, name: str, count: int) -> dict[str, float]:
        with self._bench.serving({}) as server:
            # What the first call needs once is no transfer's own.
            Upload(server, "small", 1, lambda: [b"x"]).send()
            up, files = self._take(server, [self._upload(server) for _ in range(count)])
            down, _ = self._take(server, [_download(server, id, self._size) for id in files])
        return {
            f"{name}, {way}: {figure}": value
            for way, taken in (("up", up), ("down", down))
            for figure, value in taken.items()
        }

    def _upload(self, server: Server) -> Callable[[], str]:
        return Upload(server, "large.bin", self._size, lambda: _blocks(self._size)).send

    def _take(
        self, server: Server, transfers: Sequence[Callable[[], Any]]
    ) -> tuple[dict[str, float], list[Any]]:
        with _peaks((server.python, server.envoy)) as peaks, ThreadPoolExecutor(MANY) as threads:
            start = time.perf_counter()
            with self._bench.watch(server) as cost:
                found = list(threads.map(lambda transfer: transfer(), transfers))
            seconds = time.perf_counter() - start
        size = self._size * len(transfers) / MB
        python, envoy = peaks
        return {
            "MB/s": size / seconds,
            "MB per CPU second": size / max(cost.python + cost.envoy, processes.TICK),
            "Python's memory": python / KIB,
            "Envoy's memory": envoy / KIB,
        }, found


def _blocks(size: int) -> Iterator[bytes]:
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


def _download(server: Server, id: str, size: int) -> Callable[[], None]:
    def read() -> None:
        buffer, count = bytearray(len(BLOCK)), 0
        with _request(server, "GET", f"/files/{id}/content") as response:
            while got := response.readinto(buffer):
                count += got
        if count != size:
            raise CallError(f"{count} bytes of {id}, not {size}")

    return read


@contextlib.contextmanager
def _request(
    server: Server,
    method: str,
    path: str,
    body: Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    base = urlsplit(server.stack.base_url)
    connection = http.client.HTTPConnection(base.netloc)
    with contextlib.closing(connection):
        connection.request(method, base.path + path, body, headers or {})
        response = connection.getresponse()
        if response.status != 200:
            raise CallError(f"{path}: {response.status} {response.read().decode()}")
        yield response


@contextlib.contextmanager
def _peaks(pids: Sequence[int]) -> Iterator[list[int]]:
    """Gives how many bytes of memory processes took more than before, at most; at its end."""
    before = [processes.resident_bytes(pid) for pid in pids]
    most, over = list(before), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            for n, pid in enumerate(pids):
                most[n] = max(most[n], processes.resident_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    found: list[int] = []
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found += [peak - rest for peak, rest in zip(most, before, strict=True)]


CASES: Final[dict[str, Callable[[Bench], Any]]] = {"transfers": Transfers}
