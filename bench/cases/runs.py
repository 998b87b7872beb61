"""Complete streamed runs: one call makes a thread with a message, and reads the whole answer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bench import load
from bench.cases.calls import TEXT, beside, no_op
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
        """Measures the model, and then the runs beside the no-op."""
        bench, clients = self._bench, self._clients
        model, _ = bench.take(self._server, self._completion, clients, profiled=False)
        found = beside(bench, self._server, self._no_op, self._run, clients)
        return found | {
            "of the model": found["calls/s"] / model.rate,
            "model calls/s": model.rate,
        }


CASES: Final[dict[str, Callable[[Bench], Any]]] = {
    "runs": partial(RunsCase, None),
    "runs-one-client": partial(RunsCase, 1),
}
