"""Streams: when they begin, how they keep pace with the model, and what they hold while silent."""

import time
from collections.abc import Callable
from typing import Any, Final

from bench import processes
from bench.cases.runs import PIECES, completion, new_run
from bench.load import Call, Driver, LoadError, percentile
from bench.measuring import MANY_RUNS, Bench, Figures

DELTA: Final = "event: thread.message.delta\n"
MODEL_PIECE: Final = '"content":"word '
KIB: Final = 1024


class FirstToken:
    """How long the first piece takes, from the request on: the server's, less the model's own."""

    def __init__(self, bench: Bench) -> None:
        """Prepares runs, and the streams beside which they are made."""
        self._bench = bench
        self._server = bench.server(MANY_RUNS)
        model = f"instant-{PIECES}"
        self._run = new_run(self._server, model)
        self._completion = completion(bench.model.base_url, model)
        # For longer than the runs take, which end them.
        endless = f"paced-{10**6}-{bench.sizes.pause}"
        self._beside = new_run(self._server, endless, cancel_on_disconnect=True)
        self._first(self._run, DELTA)

    def measure(self) -> Figures:
        """Measures while nothing else goes on, and then beside streams."""
        bench = self._bench
        with bench.watch(self._server) as cost:
            idle, idle_99th = self._after_model()
        with Driver("hold", self._beside, streams=bench.sizes.beside) as streams:
            streams.result()
            bench.model.wait_for(bench.sizes.beside)
            beside, beside_99th = self._after_model()
        bench.model.wait_for(0)
        return {
            "after the model's": idle,
            "99th ms": idle_99th,
            "after the model's beside streams": beside,
            "99th ms beside streams": beside_99th,
            "Python": 1000 * cost.python / bench.sizes.first_tokens,
        }

    def _after_model(self) -> tuple[float, float]:
        """Returns how many ms the first piece comes after the model's: median and 99th."""
        model = percentile(self._first(self._completion, MODEL_PIECE), 50)
        run = self._first(self._run, DELTA)
        return 1000 * (percentile(run, 50) - model), 1000 * (percentile(run, 99) - model)

    def _first(self, call: Call, marker: str) -> list[float]:
        calls = self._bench.sizes.first_tokens
        with Driver("first", call, marker=marker, calls=calls) as driver:
            seconds: list[float] = driver.result()["seconds"]
        return seconds


class Streams:
    """Many streams at once, whose pieces come at a pace."""

    def __init__(self, bench: Bench) -> None:
        """Prepares the runs."""
        self._bench = bench
        self._server = bench.server(MANY_RUNS)
        sizes = bench.sizes
        self._run = new_run(self._server, f"paced-{sizes.pieces}-{sizes.pause}")

    def measure(self) -> Figures:
        """Measures until the last stream has ended. Raises LoadError where pieces are missing."""
        sizes = self._bench.sizes
        with self._bench.watch(self._server) as cost:
            call, streams = self._run, sizes.streams
            with Driver("streams", call, marker=DELTA, streams=streams) as driver:
                result = driver.result()
        if set(result["counts"]) != {sizes.pieces}:
            raise LoadError(f"pieces per stream: {sorted(result['counts'])}, not {sizes.pieces}")
        pieces = sizes.streams * sizes.pieces
        found = {
            "until all have ended": 1000 * result["seconds"],
            "Python per piece": 1000 * cost.python / pieces,
            "Envoy per piece": 1000 * cost.envoy / pieces,
        }
        if cost.postgresql is not None:
            found["PostgreSQL per piece"] = 1000 * cost.postgresql / pieces
        return found


class SilentStreams:
    """Many streams whose model is silent, on a server that has served nothing before."""

    def __init__(self, bench: Bench) -> None:
        """Prepares nothing: memory that was taken once is not always given back."""
        self._bench = bench

    def measure(self) -> Figures:
        """Measures how much memory a new server takes for each stream."""
        count = self._bench.sizes.silent
        server = self._bench.new_server(MANY_RUNS)
        try:
            server.start()
            call = new_run(server, "silent", cancel_on_disconnect=True)
            # What the first stream needs once is no stream's own.
            with Driver("hold", call, streams=1) as first:
                first.result()
                self._bench.model.wait_for(1)
            self._bench.model.wait_for(0)
            python = processes.resident_bytes(server.python)
            envoy = processes.resident_bytes(server.envoy)
            with Driver("hold", call, streams=count) as driver:
                driver.result()
                self._bench.model.wait_for(count)
                python = processes.resident_bytes(server.python) - python
                envoy = processes.resident_bytes(server.envoy) - envoy
            self._bench.model.wait_for(0)
        finally:
            server.delete()
        return {
            "Python per stream": python / count / KIB,
            "Envoy per stream": envoy / count / KIB,
        }


class Start:
    """A server that starts, on a database that is new."""

    def __init__(self, bench: Bench) -> None:
        """Prepares nothing."""
        self._bench = bench

    def measure(self) -> Figures:
        """Measures from the start of the command until `/healthz` says that it serves."""
        server = self._bench.new_server({})
        try:
            start = time.perf_counter()
            server.start()
            seconds = time.perf_counter() - start
            return {
                "until ready": 1000 * seconds,
                "Python": processes.resident_bytes(server.python) / KIB,
                "Envoy": processes.resident_bytes(server.envoy) / KIB,
            }
        finally:
            server.delete()


CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    "first-token": FirstToken,
    "streams": Streams,
    "silent-streams": SilentStreams,
    "start": Start,
}
