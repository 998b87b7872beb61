"""Complete streamed runs: one call makes a thread with a message, and reads the whole answer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bench import load
from bench.cases.calls import TEXT, figures, no_op
from bench.load import Call
from bench.measuring import DEFAULTS, Bench, Figures
from bench.stack import Server

PIECES: Final = 8


def new_run(server: Server, model: str, **more: Any) -> Call:
    """Returns the call that streams a run on a new thread."""
    message = {"role": "user", "content": TEXT}
    body = {"assistant_id": server.assistant(model), "stream": True} | more
    return load.http(server.url("/threads/runs"), body | {"thread": {"messages": [message]}})


def completion(base_url: str, model: str) -> Call:
    """Returns the call that asks the model itself."""
    messages = [{"role": "user", "content": TEXT}]
    body: Mapping[str, Any] = {"model": model, "messages": messages, "stream": True}
    return load.http(f"{base_url}/chat/completions", body)


class RunsCase:
    """Runs, by some clients at once, against the no-op and against the model itself."""

    def __init__(self, clients: int | None, bench: Bench) -> None:
        """Prepares runs by so many clients, or by as many as calls have."""
        self._bench = bench
        self._clients = clients or bench.sizes.clients
        self._server = bench.server(DEFAULTS)
        model = f"instant-{PIECES}"
        self._run = new_run(self._server, model)
        self._completion = completion(bench.model.base_url, model)
        self._no_op = no_op(bench, self._server)

    def measure(self) -> Figures:
        """Measures the two limits, and then the runs."""
        bench, clients = self._bench, self._clients
        model, _ = bench.take(self._server, self._completion, clients, profiled=False)
        limit, limit_cost = bench.take(self._server, self._no_op, clients, profiled=False)
        load, cost = bench.take(self._server, self._run, clients)
        no_op_cpu = limit_cost.python / limit.calls
        return figures(load, cost) | {
            "of the no-op": load.rate / limit.rate,
            "of the model": load.rate / model.rate,
            # A load of one call may take less than the kernel counts.
            "Python of the no-op": cost.python / load.calls / no_op_cpu if no_op_cpu else 0.0,
            "no-op calls/s": limit.rate,
            "no-op Python": 1000 * no_op_cpu,
            "model calls/s": model.rate,
        }


CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    "runs": partial(RunsCase, None),
    "runs-one-client": partial(RunsCase, 1),
}
