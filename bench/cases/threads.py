"""Long threads: what pages, runs, copies and deletions take as threads grow."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bench import fill, load
from bench.cases.calls import TEXT
from bench.cases.runs import PIECES
from bench.load import Call
from bench.measuring import KNOWN_CONTEXT, Bench, Figures
from bench.stack import Server

PAGE: Final = 20
STRATEGIES: Final = {
    "auto of 8,192 tokens": {"type": "auto"},
    "last_messages 10": {"type": "last_messages", "last_messages": 10},
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call took, in milliseconds."""

    cpu: float
    median: float


def compared(
    bench: Bench, server: Server, call: Call, calls: int = 0, *, limit: bool = False
) -> Taken:
    """Returns what one client's calls took; profiles show them, but for those of the `limit`."""
    load, cost = bench.take(server, call, 1, calls=calls, profiled=not limit)
    cpu = 1000 * cost.python_and_database / load.calls
    return Taken(cpu, 1000 * load.percentile(50))


def growth(name: str, short: Taken, long: Taken) -> dict[str, float]:
    """Returns how many times a short thread's CPU time a long one's is: noise hardly touches it."""
    return {
        # A load of one call may take less than the kernel counts.
        name: long.cpu / short.cpu if short.cpu else 0.0,
        f"{name}: CPU": long.cpu,
        f"{name}: median ms": long.median,
        f"{name}: median ms of a short thread's": short.median,
    }


class Pages:
    """A page of the longest thread, against the same of a short one."""

    def __init__(self, bench: Bench) -> None:
        """Makes the threads."""
        self._bench = bench
        self._server = bench.server(KNOWN_CONTEXT)
        threads = fill.long_threads(self._server, [bench.sizes.short, bench.sizes.longest])
        self._short, self._long = map(self._pages, threads)

    def _pages(self, thread: fill.LongThread) -> dict[str, Call]:
        url = self._server.url(f"/threads/{thread.id}/messages?limit={PAGE}")
        middle, last = thread.message(thread.length // 2), thread.message(PAGE)
        return {
            "first": load.http(url),
            "middle": load.http(f"{url}&after={middle}"),
            "last": load.http(f"{url}&after={last}"),
        }

    def measure(self) -> Figures:
        """Measures the CPU time of one client's calls, that of the database included."""
        calls = self._bench.sizes.pages
        found: dict[str, float] = {}
        for place, call in self._long.items():
            short = compared(self._bench, self._server, self._short[place], calls, limit=True)
            long = compared(self._bench, self._server, call, calls)
            found |= growth(place, short, long)
        return found


class LongThreads:
    """A run on a long thread, against the same on a short one."""

    def __init__(self, bench: Bench) -> None:
        """Makes the threads."""
        self._bench = bench
        self._server = bench.server(KNOWN_CONTEXT)
        self._assistant = self._server.assistant(f"instant-{PIECES}")
        threads = fill.long_threads(self._server, [bench.sizes.short, bench.sizes.long])
        self._short, self._long = map(self._runs, threads)

    def _runs(self, thread: fill.LongThread) -> dict[str, Call]:
        url = self._server.url(f"/threads/{thread.id}/runs")
        body = {
            "assistant_id": self._assistant,
            "stream": True,
            "additional_messages": [{"role": "user", "content": TEXT}],
        }
        return {
            name: load.http(url, body | {"truncation_strategy": strategy})
            for name, strategy in STRATEGIES.items()
        }

    def measure(self) -> Figures:
        """Measures the CPU time of one client's runs, that of the database included."""
        found: dict[str, float] = {}
        for name, call in self._long.items():
            short = compared(self._bench, self._server, self._short[name], limit=True)
            long = compared(self._bench, self._server, call)
            found |= growth(name, short, long)
        return found


class LongWrites:
    """How long other writers wait while a long thread is copied, and while it is deleted."""

    def __init__(self, bench: Bench) -> None:
        """Makes the thread, and another for the other writer."""
        self._server = bench.server(KNOWN_CONTEXT)
        (self._thread,) = fill.long_threads(self._server, [bench.sizes.copied])
        self._other = self._server.post("/threads", {})["id"]

    def measure(self) -> Figures:
        """Copies the thread, and deletes the copy."""
        copies: list[str] = []

        def copy() -> None:
            copies.append(self._server.post(f"/threads/{self._thread.id}/copy", {})["id"])

        found = self._beside("copy", copy)
        return found | self._beside(
            "deletion", lambda: self._server.remove(f"/threads/{copies[0]}")
        )

    def _beside(self, name: str, work: Callable[[], Any]) -> dict[str, float]:
        """Adds messages to the other thread until the work is done; returns what both took."""
        working = threading.Thread(target=work)
        start, waits = time.perf_counter(), [0.0]
        working.start()
        while working.is_alive():
            begun = time.perf_counter()
            message = {"role": "user", "content": TEXT}
            self._server.post(f"/threads/{self._other}/messages", message)
            waits.append(time.perf_counter() - begun)
        return {
            f"{name} ms": 1000 * (time.perf_counter() - start),
            f"longest wait beside a {name} ms": 1000 * max(waits),
        }


CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    "pages": Pages,
    "long-threads": LongThreads,
    "long-writes": LongWrites,
}
