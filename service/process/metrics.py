"""Every metric of a server. Prometheus reads them at `ASSISTANTS_METRICS_ADDRESS`."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from service.errors import SettingsError

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
RUNS = Gauge("assistants_runs", "Runs that have not ended, by status; of all servers.", ["status"])
QUEUE_DEPTH = Gauge("assistants_queue_depth", "Runs that wait for a worker; of all servers.")
OLDEST_QUEUED = Gauge(
    "assistants_queue_oldest_seconds", "How long the oldest of them has waited; of all servers."
)
WORKING = Gauge("assistants_worker_runs", "Runs that this server executes.")
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
RETRIES = Counter("assistants_model_retries", "Requests to models that were tried again.")

NATS_UP = Gauge(
    "assistants_nats_up", "Whether NATS answers this server: 1 or 0; none without NATS.", ["prefix"]
)
NATS_OUTAGES = Counter(
    "assistants_nats_outages", "How often this server has lost NATS.", ["prefix"]
)


def serve(address: str) -> None:
    """Serves the metrics at HOST:PORT, `/metrics`, from a thread. Raises SettingsError."""
    host, _, port = address.rpartition(":")
    try:
        start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        raise SettingsError(f"ASSISTANTS_METRICS_ADDRESS: {address}: {error.strerror}") from None
