"""What Prometheus reads, and what the log has of each run."""

import http.client
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from assistants.v1 import runs_pb2
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from service.process import metrics
from tests.serve.test_recovery import start_run
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Fail, Hold
from tests.support.serve.processes import kill
from tests.support.stack import Stack, free_address
from tests.support.waiting import until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

QUEUE_DEPTH, RUNS = "assistants_queue_depth", "assistants_runs"


@pytest.fixture
def measured(model_server: ModelServer) -> Iterator[Stack]:
    """A server that executes one run at a time, and shows its metrics."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_METRICS_ADDRESS": free_address(),
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
        "ASSISTANTS_LEASE_SECONDS": "1",
    }
    with Stack(env) as stack:
        yield stack.start()


def scrape(stack: Stack) -> Samples:
    """Returns all values, by name and labels."""
    url = f"http://{stack.env['ASSISTANTS_METRICS_ADDRESS']}/metrics"
    with urllib.request.urlopen(url, timeout=60) as response:
        text = response.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(stack: Stack, name: str, **labels: str) -> float:
    """Returns one value; what has not been counted yet is 0."""
    return scrape(stack).get((name, tuple(sorted(labels.items()))), 0.0)


async def wait_for_value(stack: Stack, expected: float, name: str, **labels: str) -> None:
    """Waits for a value."""
    await until(lambda: value(stack, name, **labels) == expected)


async def ended(stubs: Stubs, *runs: Run) -> None:
    for run in runs:
        await until(lambda run=run: stubs.get_run(run).status == Run.completed)  # type: ignore[misc]


def transitions(stack: Stack, run: Run) -> list[str]:
    """Returns the statuses that the log has of a run, which has one line for each."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", stack.printed())
    lines = [line for line in plain.splitlines() if f"run_id={run.id}" in line]
    # Those of the model's answers are numbers.
    return [found[1] for line in lines if (found := re.search(r"\bstatus=([a-z_]+)", line))]


async def test_runs_are_measured_from_queue_to_end(measured: Stack, models: ModelServer) -> None:
    stack, hold = measured, Hold(Answer("Hello"))
    with connect(stack.grpc_address) as stubs:
        retried = start_run(stubs, models.script(Fail(500), hold))
        await until(hold.held.is_set)
        queued = start_run(stubs, models.script(Answer("Hello")))
        request = runs_pb2.CreateRunRequest(
            thread_id=retried.thread_id, assistant_id=retried.assistant_id, when_active="queue"
        )
        waiting = stubs.runs.CreateRun(request)
        await wait_for_value(stack, 1, QUEUE_DEPTH)
        await wait_for_value(stack, 1, RUNS, status="in_progress")
        await wait_for_value(stack, 1, RUNS, status="queued")
        await wait_for_value(stack, 1, RUNS, status="waiting")
        assert value(stack, "assistants_worker_runs") == 1
        await until(lambda: value(stack, "assistants_queue_oldest_seconds") > 0)
        cancel = runs_pb2.CancelRunRequest(thread_id=waiting.thread_id, run_id=waiting.id)
        stubs.runs.CancelRun(cancel)
        hold.release()
        await ended(stubs, retried, queued)
        await wait_for_value(stack, 0, QUEUE_DEPTH)
        await wait_for_value(stack, 0, "assistants_worker_runs")
        for status in ("queued", "in_progress", "waiting", "cancelling", "requires_action"):
            await wait_for_value(stack, 0, RUNS, status=status)
        samples = scrape(stack)

    def count(name: str, **labels: str) -> float:
        return samples[name, tuple(sorted(labels.items()))]

    counted = {
        "queued": 3.0,
        "in_progress": 2.0,
        "completed": 2.0,
        "cancelling": 1.0,
        "cancelled": 1.0,
    }
    for status, number in counted.items():
        assert count("assistants_run_transitions_total", status=status) == number
    assert count("assistants_model_retries_total") == 1
    assert count("assistants_leases_reclaimed_total") == 0
    assert count("assistants_tokens_total", kind="prompt") == 40
    assert count("assistants_tokens_total", kind="completion") == 10
    for name in ("assistants_turn_seconds", "assistants_first_token_seconds"):
        assert count(f"{name}_count") == 2
        assert 0 < count(f"{name}_sum") < 600
    assert count("assistants_queue_oldest_seconds") == 0
    names = {name for name, _ in samples}
    # Those are there with NATS: test_servers_on_nats.py.
    shown = {*declared()} - {metrics.NATS_UP, metrics.NATS_OUTAGES}
    assert {name for each in shown for name in names_of(each)} <= names

    # Each transition is one line.
    assert transitions(stack, retried) == ["queued", "in_progress", "completed"]
    assert transitions(stack, queued) == ["queued", "in_progress", "completed"]
    assert transitions(stack, waiting) == ["queued", "cancelling", "cancelled"]
    assert stack.terminate() == 0, stack.printed()


async def test_a_lease_that_is_taken_over(measured: Stack, models: ModelServer) -> None:
    stack, hold = measured, Hold(Answer("Hello"))
    with connect(stack.grpc_address) as stubs:
        run = start_run(stubs, models.script(hold, Answer("Again")))
        await until(hold.held.is_set)
    assert stack.process is not None
    kill(stack.process.pid, signal.SIGKILL)
    stack.process.wait()
    stack.start()
    with connect(stack.grpc_address) as stubs:
        await ended(stubs, run)
    assert value(stack, "assistants_leases_reclaimed_total") == 1
    assert value(stack, "assistants_run_transitions_total", status="in_progress") == 1
    assert transitions(stack, run) == ["queued", "in_progress", "in_progress", "completed"]
    assert stack.terminate() == 0, stack.printed()


def declared() -> list[Any]:
    """Returns every metric of the server."""
    kinds = (Counter, Gauge, Histogram)
    return [each for each in vars(metrics).values() if isinstance(each, kinds)]


def names_of(metric: Any) -> list[str]:
    [family] = metric.describe()
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return [family.name + ending for ending in endings.get(family.type, [""])]


def test_not_by_default(server: Stack) -> None:
    for port in (server.grpc_address, server.env["ASSISTANTS_HTTP_ADDRESS"]):
        with pytest.raises((urllib.error.HTTPError, http.client.BadStatusLine)):
            urllib.request.urlopen(f"http://{port}/metrics", timeout=60)
