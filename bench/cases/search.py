"""File search: what indexing a file takes, and searching in many chunks, beside other calls."""

import contextlib
import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import sqlalchemy as sa

from bench import documents, load, processes
from bench.cases.calls import ASSISTANT, TEXT
from bench.cases.transfers import Upload
from bench.load import Call
from bench.measuring import Bench, Figures, Sizes
from bench.stack import CallError, Server
from storage import tables

MB: Final = 1_000_000
RESULTS: Final = 20
POLL_SECONDS: Final = 0.1

_SEGMENTS: sa.Table = tables.Segment.__table__  # type: ignore[attr-defined]


class SearchCase:
    """Searches by words and vectors in one vector store of many chunks, one after the other."""

    def __init__(self, chunks: Callable[[Sizes], int], bench: Bench) -> None:
        """Makes the vector store, on a server of its own."""
        self._bench = bench
        self._server = server = bench.keep(bench.serving({}))
        self._chunks = chunks(bench.sizes)
        before, start = documents.disk_bytes(server), time.perf_counter()
        store = documents.fill(server, self._chunks)
        self._filled = self._chunks / (time.perf_counter() - start)
        self._built = documents.wait_for_neighbours(server, store, self._chunks)
        self._disk = documents.disk_bytes(server) - before
        generator = documents.Generator(seed=2)
        self._questions = [generator.question() for _ in range(bench.sizes.questions)]
        self._path = f"/vector_stores/{store}/search"
        id = server.post("/assistants", ASSISTANT)["id"]
        self._read = load.http(server.url(f"/assistants/{id}"))

    def measure(self) -> Figures:
        """Measures searches, and then a read alone and beside searches."""
        with _connected(self._server) as search:
            first = self._search(search, self._questions[0])
            with self._bench.watch(self._server) as cost:
                times = sorted(self._search(search, each) for each in self._questions)
        alone = self._median(self._read)
        with self._searching():
            beside = self._median(self._read)
        found = {
            "median ms": 1000 * statistics.median(times),
            "longest ms": 1000 * times[-1],
            "first ms": 1000 * first,
            "Python": 1000 * cost.python / len(times),
            "read ms": alone,
            "read's growth beside": beside - alone,
            "MB of disk per 100,000 chunks": self._disk / MB / self._chunks * 100_000,
            "chunks/s written": self._filled,
        }
        if self._built is not None:
            found["s until neighbours are indexed"] = self._built
        if cost.postgresql is not None:
            found["PostgreSQL"] = 1000 * cost.postgresql / len(times)
        return found

    def _search(self, ask: Callable[[str, Any], Any], question: str) -> float:
        start = time.perf_counter()
        found = ask(self._path, {"query": question, "max_num_results": RESULTS})
        if not found["data"]:
            raise CallError(f"nothing is found of {question}")
        return time.perf_counter() - start

    def _median(self, call: Call) -> float:
        return 1000 * self._bench.take(self._server, call, 1)[0].percentile(50)

    @contextlib.contextmanager
    def _searching(self) -> Iterator[None]:
        """Searches meanwhile, one question after the other."""
        over = threading.Event()

        def work() -> None:
            with _connected(self._server) as search:
                while not over.is_set():
                    for question in self._questions:
                        self._search(search, question)
                        if over.is_set():
                            break

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Indexing:
    """A file of text that is indexed, and messages that are created meanwhile."""

    def __init__(self, bench: Bench) -> None:
        """Generates the text."""
        self._bench = bench
        self._server = bench.keep(bench.serving({}))
        self._lines = b"".join(documents.Generator().lines(bench.sizes.indexed))
        self._thread = self._server.post("/threads", {})["id"]

    def measure(self) -> Figures:
        """Measures from the entry in a vector store until it is completed: alone, then beside."""
        server = self._server
        file = Upload(server, "text.txt", len(self._lines), lambda: iter([self._lines])).send()
        with self._bench.watch(server) as cost:
            parsing = processes.cpu_seconds_of_ended(server.python)
            start = time.perf_counter()
            store = self._index(file, partial(time.sleep, POLL_SECONDS))
            seconds = time.perf_counter() - start
            parsing = processes.cpu_seconds_of_ended(server.python) - parsing
        with _connected(server) as ask:
            alone = statistics.median(self._message(ask) for _ in range(self._bench.sizes.created))
            times: list[float] = []
            other = self._index(file, lambda: times.append(self._message(ask)))
        chunks = self._count(store)
        for each in (f"/vector_stores/{store}", f"/vector_stores/{other}", f"/files/{file}"):
            server.remove(each)
        size = len(self._lines) / MB
        return {
            "chunks per CPU second": chunks / cost.python_and_database,
            "MB per CPU second": size / cost.python_and_database,
            "MB/s": size / seconds,
            "parsing: MB per CPU second": size / max(parsing, processes.TICK),
            "message ms": 1000 * alone,
            "message's growth beside": 1000 * (statistics.median(times) - alone),
            "chunks": chunks,
        }

    def _index(self, file: str, meanwhile: Callable[[], None]) -> str:
        """Indexes a file in a vector store of its own, and returns that one's id."""
        store = str(self._server.post("/vector_stores", {"file_ids": [file]})["id"])
        looked = time.perf_counter()
        while True:
            meanwhile()
            if time.perf_counter() - looked >= POLL_SECONDS:
                if self._is_done(store):
                    return store
                looked = time.perf_counter()

    def _message(self, ask: Callable[[str, Any], Any]) -> float:
        start = time.perf_counter()
        ask(f"/threads/{self._thread}/messages", {"role": "user", "content": TEXT})
        return time.perf_counter() - start

    def _is_done(self, store: str) -> bool:
        counts = self._server.get(f"/vector_stores/{store}")["file_counts"]
        if counts["failed"]:
            raise CallError(f"the file was not indexed: {counts}")
        return bool(counts["completed"])

    def _count(self, store: str) -> int:
        engine = self._server.engine()
        try:
            with engine.connect() as connection:
                count = sa.select(sa.func.sum(_SEGMENTS.c.chunks))
                mine = _SEGMENTS.c.vector_store_id == store
                return int(connection.execute(count.where(mine)).scalar_one())
        finally:
            engine.dispose()


@contextlib.contextmanager
def _connected(server: Server) -> Iterator[Callable[[str, Any], Any]]:
    """Gives what POSTs JSON over one connection, and returns the JSON of the answer."""
    base = urlsplit(server.stack.base_url)
    connection = http.client.HTTPConnection(base.netloc)

    def ask(path: str, body: Any) -> Any:
        headers = {"content-type": "application/json"}
        connection.request("POST", base.path + path, orjson.dumps(body), headers)
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise CallError(f"{path}: {response.status} {data.decode()}")
        return orjson.loads(data)

    with contextlib.closing(connection):
        yield ask


CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    "indexing": Indexing,
    "search-10k": partial(SearchCase, lambda sizes: sizes.small_store),
    "search-100k": partial(SearchCase, lambda sizes: sizes.large_store),
    "search-1m": partial(SearchCase, lambda sizes: sizes.largest_store),
}
