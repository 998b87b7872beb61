"""Several servers: what a second process gives, and how late the streams of another server are."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.cases.calls import create_message, get_assistant
from bench.cases.runs import PIECES, new_run
from bench.load import Call, Driver, percentile
from bench.measuring import DEFAULTS, MANY_RUNS, Bench, Figures
from bench.stack import Server
from tests.support.nats import Nats

PAUSE: Final = 0.05
"""Seconds between the pieces of a run that is followed on two servers."""


class Processes:
    """`serve --processes N` against `serve --processes 1`, whose rates are 1."""

    def __init__(self, bench: Bench) -> None:
        """Starts both, with two processes unless the bench has more, and prepares the calls."""
        self._bench = bench
        self._servers: list[tuple[Server, dict[str, Call]]] = []
        for processes in (1, max(2, bench.sizes.processes)):
            server = bench.new_server(DEFAULTS, processes)
            bench.end(server.delete)
            server.start()
            calls = {
                "get assistant": get_assistant(bench, server),
                "create message": create_message(bench, server),
                "runs": new_run(server, f"instant-{PIECES}"),
            }
            self._servers.append((server, calls))

    def measure(self) -> Figures:
        """Measures each call on both, in turn: what disturbs one disturbs the other."""
        found = dict[str, float]()
        for kind in self._servers[0][1]:
            rates, costs = [0.0, 0.0], [0.0, 0.0]
            for number in (0, 1, 1, 0):
                server, calls = self._servers[number]
                load, cost = self._bench.take(server, calls[kind], self._bench.sizes.clients)
                rates[number] += load.rate / 2
                costs[number] += 1000 * cost.python / load.calls / 2
            found |= {
                kind: rates[1] / rates[0],
                f"{kind}/s of one": rates[0],
                f"{kind}/s of all": rates[1],
                f"{kind}: Python of one": costs[0],
                f"{kind}: Python of all": costs[1],
            }
        return found


class OtherServer:
    """Runs whose streams are read on the server that executes them, and on another."""

    def __init__(self, bench: Bench) -> None:
        """Starts two servers with a NATS server, on one PostgreSQL; on SQLite there are none."""
        self._bench = bench
        if bench.database == "sqlite":
            return
        settings = MANY_RUNS | {"ASSISTANTS_NATS_URL": bench.keep(_nats()).url}
        self._own = bench.new_server(settings, 1)
        bench.end(self._own.delete)
        settings |= {"ASSISTANTS_DATABASE_URL": self._own.database_url}
        self._other = Server(bench.model.base_url, settings, None)
        bench.end(self._other.delete)
        for server in (self._own, self._other):
            server.start()
        self._run = new_run(self._own, f"stamped-{bench.sizes.pieces}-{round(1000 * PAUSE)}")

    def measure(self) -> Figures:
        """Measures from when the model sends a piece until it is there, on both in the same run."""
        if self._bench.database == "sqlite":
            return {}
        base_url, streams = self._other.stack.base_url, self._bench.sizes.followed
        with Driver("follow", self._run, other=base_url, streams=streams) as driver:
            result = driver.result()
        own, other = result["own"], result["other"]
        return {
            "added median": 1000 * (percentile(other, 50) - percentile(own, 50)),
            "99th of its own": percentile(other, 99) / percentile(own, 99),
            "own median ms": 1000 * percentile(own, 50),
            "own 99th ms": 1000 * percentile(own, 99),
            "other median ms": 1000 * percentile(other, 50),
            "other 99th ms": 1000 * percentile(other, 99),
        }


@contextmanager
def _nats() -> Iterator[Nats]:
    with tempfile.TemporaryDirectory(prefix="nats-") as directory:
        nats = Nats(Path(directory))
        try:
            yield nats
        finally:
            nats.kill()


CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    "processes": Processes,
    "other-server": OtherServer,
}
