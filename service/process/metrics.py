"""Every metric of a server. Prometheus reads them at `ASSISTANTS_METRICS_ADDRESS`."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector, CollectorRegistry

from service.errors import SettingsError

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of the directory in which a process writes its metrics, for another to read."""

CALLS = Counter(
    "assistants_calls",
    "Calls that have ended, of REST and gRPC, by method and gRPC status.",
    ["method", "status"],
)
CALL_SECONDS = Histogram(
    "assistants_call_seconds",
    "How long calls take; those that stream, until the stream ends.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600),
)
RUNS = Gauge(
    "assistants_runs",
    "Runs that have not ended, by status; of all servers.",
    ["status"],
    multiprocess_mode="livemostrecent",
)
QUEUE_DEPTH = Gauge(
    "assistants_queue_depth",
    "Runs that wait for a worker; of all servers.",
    multiprocess_mode="livemostrecent",
)
OLDEST_QUEUED = Gauge(
    "assistants_queue_oldest_seconds",
    "How long the oldest of them has waited; of all servers.",
    multiprocess_mode="livemostrecent",
)
WORKING = Gauge(
    "assistants_worker_runs", "Runs that this server executes.", multiprocess_mode="livesum"
)
TRANSITIONS = Counter(
    "assistants_run_transitions", "Runs that came to a status, through this server.", ["status"]
)
RECLAIMED = Counter(
    "assistants_leases_reclaimed", "Runs taken over after the lease of their worker ran out."
)
TURN_SECONDS = Histogram(
    "assistants_turn_seconds",
    "How long the model takes to answer, retries included.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
FIRST_TOKEN_SECONDS = Histogram(
    "assistants_first_token_seconds",
    "How long it takes from a run's claim to the first piece of its answer.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
TOKENS = Counter("assistants_tokens", "Tokens that models reported.", ["kind"])
INDEXING = Gauge(
    "assistants_indexing_files", "Files that this server indexes.", multiprocess_mode="livesum"
)
INDEXED = Counter(
    "assistants_indexed_files",
    "Files of vector stores that came to an end through this server, by status.",
    ["status"],
)
RETRIES = Counter("assistants_model_retries", "Requests to models that were tried again.")
INTERPRETER_SESSIONS = Gauge(
    "assistants_interpreter_sessions",
    "Sessions of the code interpreter that are open.",
    multiprocess_mode="livesum",
)
INTERPRETER_SESSION_ENDS = Counter(
    "assistants_interpreter_session_ends", "Sessions that have ended, by why.", ["reason"]
)
INTERPRETER_STATE_LOST = Counter(
    "assistants_interpreter_state_lost",
    "Sessions started though another server had the thread's, or has died with it.",
)
INTERPRETER_START_SECONDS = Histogram(
    "assistants_interpreter_start_seconds",
    "How long sessions take to start.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
INTERPRETER_CALLS = Counter(
    "assistants_interpreter_calls",
    "Calls of the code interpreter, by how they ended.",
    ["outcome"],
)
INTERPRETER_CALL_SECONDS = Histogram(
    "assistants_interpreter_call_seconds",
    "How long code runs, without the start of its session.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 120),
)

DATABASE_UP = Gauge(
    "assistants_database_up",
    "Whether the database answers this server: 1 or 0.",
    multiprocess_mode="livemin",
)
NATS_UP = Gauge(
    "assistants_nats_up",
    "Whether NATS answers this server: 1 or 0; none without NATS.",
    ["prefix"],
    multiprocess_mode="livemin",
)
NATS_OUTAGES = Counter(
    "assistants_nats_outages", "How often this server has lost NATS.", ["prefix"]
)


class Together(Collector):
    """The metrics of several processes, added up, of those that have ended too."""

    def __init__(self, directory: Path, pids: Callable[[], Collection[int]]) -> None:
        """Reads what they write into a directory, which is their `DIRECTORY`. `pids` are alive."""
        self._directory = directory
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        """Reads all of them."""
        alive = set(self._pids())
        written = {int(file.stem.rpartition("_")[2]) for file in self._directory.glob("*.db")}
        for pid in written - alive:
            # What was so only while it lived is so no longer; what it has counted stays.
            mark_process_dead(pid, str(self._directory))
        read: Collector = MultiProcessCollector(CollectorRegistry(), str(self._directory))
        yield from read.collect()


def serve(address: str, collector: Collector = REGISTRY) -> None:
    """Serves metrics at HOST:PORT, `/metrics`, from a thread: this process's, unless said.

    Raises SettingsError.
    """
    host, _, port = address.rpartition(":")
    registry = collector
    if not isinstance(registry, CollectorRegistry):
        registry = CollectorRegistry()
        registry.register(collector)
    try:
        start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise SettingsError(f"ASSISTANTS_METRICS_ADDRESS: {address}: {error.strerror}") from None
