"""The same run on other servers, as far as they are set up (bench/peers)."""

from collections.abc import Callable
from typing import Any, Final

from bench import load, processes
from bench.cases.calls import TEXT
from bench.cases.runs import PIECES, new_run
from bench.load import Call
from bench.measuring import DEFAULTS, Bench, Figures
from bench.peers.peer import PEERS

CLIENTS: Final = 16


class Peers:
    """Complete streamed runs, each on a new thread, here and there."""

    def __init__(self, bench: Bench) -> None:
        """Starts those that are set up."""
        self._bench = bench
        self._clients = min(CLIENTS, bench.sizes.clients)
        self._server = bench.server(DEFAULTS)
        model = f"instant-{PIECES}"
        self._run = new_run(self._server, model)
        env = {"BENCH_MODEL_URL": bench.model.base_url, "BENCH_MODEL": model}
        self._peers: dict[str, tuple[Call, int]] = {}
        for peer in PEERS:
            if bench.sizes.peers and peer.installed:
                url, pid = bench.keep(peer.serving(env, bench.postgres))
                self._peers[peer.name] = _run(url), pid

    def measure(self) -> Figures:
        """Measures this server, and then each of the others."""
        ours, cost = self._bench.take(self._server, self._run, self._clients)
        found = {"runs/s": ours.rate, "Python": 1000 * cost.python / ours.calls}
        for name, (call, pid) in self._peers.items():
            calls = self._bench.calls(call, self._clients)
            before = processes.cpu_seconds_of_family(pid)
            theirs = self._bench.generator.run(call, self._clients, calls)
            cpu = processes.cpu_seconds_of_family(pid) - before
            found |= {
                f"times {name}": ours.rate / theirs.rate,
                f"{name}: runs/s": theirs.rate,
                f"{name}: Python": 1000 * cpu / theirs.calls,
            }
        return found


def _run(url: str) -> Call:
    """Returns the call of LangGraph's API that makes a thread and streams a run on it."""
    body = {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": TEXT}]},
        "stream_mode": ["messages-tuple"],
        "on_completion": "keep",
    }
    return load.http(f"{url}/runs/stream", body)


CASES: Final[dict[str, Callable[[Bench], Any]]] = {"peers": Peers}
