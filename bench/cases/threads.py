"""Long threads: what pages, runs, copies and deletions take as threads grow."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from bench import fill, load
from bench.cases.calls import TEXT
from bench.cases.runs import PIECES
from bench.load import Call, Load, percentile
from bench.measuring import KNOWN_CONTEXT, Bench, Figures
from bench.stack import Cost, Server

PAGE: Final = 20
BLOCKS: Final = 5
"""Parts of a load that alternate with those of the other thread."""

STRATEGIES: Final = {
    "auto of 8,192 tokens": {"type": "auto"},
    "last_messages 10": {"type": "last_messages", "last_messages": 10},
}


class Growth:
    """What a call takes on a long thread, against the same on a short one."""

    def __init__(self, bench: Bench, server: Server, short: Call, long: Call) -> None:
        """Compares two calls."""
        self._bench = bench
        self._server = server
        self._short = short
        self._long = long

    def measure(self, name: str, calls: int = 0) -> dict[str, float]:
        """Measures one client's calls: as many of each, or for as long as a load lasts.

        The ratio is of CPU time, that of the database included: noise hardly touches it.
        """
        plan = {call: calls or self._bench.calls(call, 1) for call in (self._short, self._long)}
        blocks = min(BLOCKS, *plan.values())
        taken = {call: Taken() for call in plan}
        for _ in range(blocks):
            for call, planned in plan.items():
                result, cost = self._bench.take(
                    self._server,
                    call,
                    1,
                    calls=max(planned // blocks, 1),
                    profiled=call is self._long,
                )
                taken[call].add(result, cost)
        short, long = taken.values()
        return {
            # A load of one call may take less than the kernel counts.
            name: long.cpu / short.cpu if short.cpu else 0.0,
            f"{name}: CPU": long.cpu,
            f"{name}: median ms": long.median,
            f"{name}: median ms of a short thread's": short.median,
        }


class Taken:
    """What the same call took in several loads, in milliseconds per call."""

    def __init__(self) -> None:
        self._latencies: list[float] = []
        self._cpu = 0.0

    def add(self, load: Load, cost: Cost) -> None:
        """Takes in a load."""
        self._latencies += load.latencies
        self._cpu += cost.python_and_database

    @property
    def cpu(self) -> float:
        """CPU time."""
        return 1000 * self._cpu / len(self._latencies)

    @property
    def median(self) -> float:
        """The median of what its client waited."""
        return 1000 * percentile(self._latencies, 50)


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
        """Measures a page at each place."""
        found: dict[str, float] = {}
        for place, long in self._long.items():
            growth = Growth(self._bench, self._server, self._short[place], long)
            found |= growth.measure(place, self._bench.sizes.pages)
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
        """Measures a run by each strategy."""
        found: dict[str, float] = {}
        for name, long in self._long.items():
            growth = Growth(self._bench, self._server, self._short[name], long)
            found |= growth.measure(name)
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
