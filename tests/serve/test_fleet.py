"""`assistants serve --processes 2`: two servers behind one Envoy, with NATS between them."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from assistants.v1 import runs_pb2

from tests.serve.test_failures import MODEL, refusal
from tests.serve.test_metrics import value
from tests.serve.test_parts import load, more, rest
from tests.serve.test_recovery import start_run
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.serve.fleet import servers_of, two_processes
from tests.support.serve.processes import processes_of
from tests.support.stack import Stack, free_address
from tests.support.waiting import until

CALLS = 40


@pytest.fixture(scope="module")
def fleet(model_server: ModelServer) -> Iterator[Stack]:
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_METRICS_ADDRESS": free_address(),
        "ASSISTANTS_LEASE_SECONDS": "2",
        # What only reads is a line then, too.
        "ASSISTANTS_LOG_LEVEL": "debug",
    }
    with two_processes(env) as stack:
        yield stack


def members(stack: Stack) -> dict[int, int]:
    """Returns the processes of the servers, by their numbers."""
    found = {}
    for pid in processes_of(stack):
        with open(f"/proc/{pid}/cmdline") as file:
            if number := re.search(r'gateway\.member\0{"number":(\d+)', file.read()):
                found[int(number[1])] = pid
    return found


async def test_both_servers_are_called_on_both_ports(fleet: Stack) -> None:
    before = value(fleet, "assistants_calls_total", method="CreateThread", status="OK")
    since = len(fleet.printed())
    with rest(fleet) as client, connect(fleet.grpc_address) as stubs:
        for _ in range(CALLS):
            client.beta.threads.create()
            stubs.assistant("m")
    assert servers_of(fleet, "CreateThread", since) == {"0", "1"}
    assert servers_of(fleet, "CreateAssistant", since) == {"0", "1"}
    counted = value(fleet, "assistants_calls_total", method="CreateThread", status="OK")
    assert counted - before == CALLS


async def test_a_run_is_followed_and_cancelled_from_any_server(
    fleet: Stack, models: ModelServer
) -> None:
    """Whichever server executes it, streams of both show it as it comes."""
    hold = Hold(Answer("Hello there"), after="Hello")
    with connect(fleet.grpc_address) as stubs, ThreadPoolExecutor(CALLS) as threads:
        run = start_run(stubs, models.script(hold))
        await until(hold.held.is_set)
        seen = [threads.submit(first_text, fleet, run) for _ in range(8)]
        # While the model has not answered in full.
        [text] = {each.result(60) for each in seen}
        assert text
        assert "Hello".startswith(text)
        assert not hold.disconnected.is_set()
        stubs.runs.CancelRun(runs_pb2.CancelRunRequest(thread_id=run.thread_id, run_id=run.id))
        await until(hold.disconnected.is_set)
        await until(lambda: stubs.get_run(run).status == Run.cancelled)
    await until(lambda: servers_of(fleet, "StreamRunEvents") == {"0", "1"})


def first_text(stack: Stack, run: Run) -> str:
    """Follows a run on a connection of its own up to its first text."""
    with connect(stack.grpc_address) as stubs:
        request = runs_pb2.StreamRunEventsRequest(thread_id=run.thread_id, run_id=run.id)
        for event in stubs.runs.StreamRunEvents(request):
            if event.event == "thread.message.delta":
                return str(event.message_delta.content[0].text.value)
    return ""


async def test_a_server_that_is_killed(fleet: Stack, models: ModelServer) -> None:
    """The other takes the calls meanwhile, and its run; it is started again."""
    hold = Hold(Answer("Hello"))
    with connect(fleet.grpc_address) as stubs:
        run = start_run(stubs, models.script(hold, Answer("Again")))
        await until(hold.held.is_set)
        before = members(fleet)
        number = worker_of(fleet, run)
        with load(fleet) as made:
            await more(made)
            os.kill(before[number], signal.SIGKILL)
            await more(made)
            await until(lambda: members(fleet).get(number, before[number]) != before[number])
            await until(lambda: stubs.get_run(run).status == Run.completed)
        assert stubs.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Again")]
        assert {each.partition(" ")[0] for each in made.outcomes} == {"GET", "POST"}
        # What it had begun is lost, for its callers: one call each, at most.
        assert sum(made.outcomes.values()) - made.outcomes["GET"] - made.outcomes["POST"] <= 4
        # What was counted stays counted, and what was so is no longer.
        await until(lambda: value(fleet, "assistants_worker_runs") == 0)
        assert value(fleet, "assistants_leases_reclaimed_total") == 1


def worker_of(stack: Stack, run: Run) -> int:
    """Returns the number of the server that executes a run."""
    lines = [line for line in stack.printed().splitlines() if run.id in line]
    [line] = [line for line in lines if "status=in_progress" in line]
    found = re.search(r"\bserver=(\d)\b", line)
    assert found
    return int(found[1])


def test_what_does_not_go_together() -> None:
    upstreams = {"ASSISTANTS_GRPC_UPSTREAMS": "a:1", "ASSISTANTS_EDGE_SECRET": "x" * 20}
    line = refusal(MODEL | upstreams, arguments=("serve", "--processes", "2"))
    assert line.startswith("ASSISTANTS_GRPC_UPSTREAMS: not with --processes")
    line = refusal(MODEL, arguments=("serve", "--processes", "2", "--grpc-only"))
    assert line.startswith("--processes: ")


def test_without_nats() -> None:
    hidden = "import gateway.nats as n; n.PACKAGE = 'no-such-package'; "
    line = refusal(MODEL, hidden, ("serve", "--processes", "2"))
    assert line.startswith("--processes: the package no-such-package is missing")


def test_a_database_that_is_out_of_reach() -> None:
    url = {"ASSISTANTS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
    line = refusal(MODEL | url, arguments=("serve", "--processes", "2"))
    assert line.startswith("ASSISTANTS_DATABASE_URL: ")
