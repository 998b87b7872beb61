"""Sessions of the code interpreter with `assistants serve --processes 2`: where runs go."""

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from assistants.v1 import common_pb2, runs_pb2

from tests.serve.test_code_interpreter import ended, logs, python
from tests.serve.test_fleet import members, worker_of
from tests.serve.test_metrics import value
from tests.serve.test_recovery import start_run
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.serve.fleet import two_processes
from tests.support.stack import Stack, free_address
from tests.support.waiting import until

CODE = """\
print('length' in globals() and length)
with open('kept', 'a') as file:
    file.write('x')
with open('kept') as file:
    length = len(file.read())
print(length)
"""

IN_A_ROW = 12
"""Runs of one thread on one server, which is that of its session: by chance, hardly ever."""


class Ran(NamedTuple):
    """A run that has executed CODE."""

    worker: int
    anew: bool
    """Whether it was told that the session was started anew."""
    known: str
    """The length that the session knew of before."""
    length: int
    """How often code of the thread has run by now, by its files."""


@pytest.fixture
def fleet(model_server: ModelServer) -> Iterator[Stack]:
    """Two servers, each of which executes one run at a time."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_SANDBOX": "auto",
        "ASSISTANTS_METRICS_ADDRESS": free_address(),
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
        "ASSISTANTS_LEASE_SECONDS": "2",
    }
    with two_processes(env) as stack:
        yield stack


async def run_code(fleet: Stack, stubs: Stubs, models: ModelServer, thread_id: str) -> Ran:
    """Runs CODE in the thread's session, wherever that is."""
    tools = [common_pb2.Tool(type="code_interpreter")]
    assistant = stubs.assistant(models.script(python(CODE), Answer("Done.")), tools=tools)
    request = runs_pb2.CreateRunRequest(thread_id=thread_id, assistant_id=assistant.id)
    run: Run = stubs.runs.CreateRun(request)
    assert (await ended(stubs, run)).status == Run.completed
    [text] = logs(stubs, run)
    known, length = text.splitlines()[-2:]
    return Ran(worker_of(fleet, run), "was started anew" in text, known, int(length))


def lost(fleet: Stack) -> float:
    """How often a session was started while another server had the thread's."""
    return value(fleet, "assistants_interpreter_state_lost_total")


async def test_runs_go_to_the_server_of_their_threads_session(
    fleet: Stack, models: ModelServer
) -> None:
    """One that goes to the other all the same finds the files, and not the variables."""
    with connect(fleet.grpc_address) as stubs:
        thread_id = stubs.thread("Hi").id
        ran = [await run_code(fleet, stubs, models, thread_id)]
        assert not ran[0].anew
        stayed = moved = 0
        while stayed < IN_A_ROW:
            ran.append(await run_code(fleet, stubs, models, thread_id))
            before, now = ran[-2:]
            stays = before.worker == now.worker
            stayed, moved = (stayed + 1, moved) if stays else (0, moved + 1)
            assert now.anew is not stays
            assert now.known == (str(before.length) if stays else "False")
            assert now.length == len(ran) <= 5 * IN_A_ROW
        assert lost(fleet) == moved


async def test_runs_of_a_session_whose_server_is_busy_or_gone(
    fleet: Stack, models: ModelServer
) -> None:
    with connect(fleet.grpc_address) as stubs:
        thread_id = stubs.thread("Hi").id
        first = await run_code(fleet, stubs, models, thread_id)

        # Each has its hands full, and then only the one that has the session.
        holds = [Hold(Answer("At last")) for _ in range(2)]
        busy = [start_run(stubs, models.script(hold)) for hold in holds]
        for hold in holds:
            await until(hold.held.is_set)
        workers = [worker_of(fleet, run) for run in busy]
        assert sorted(workers) == [0, 1]
        keeper, other = workers.index(first.worker), workers.index(1 - first.worker)
        holds[other].release()
        assert (await ended(stubs, busy[other])).status == Run.completed
        second = await run_code(fleet, stubs, models, thread_id)
        assert second == Ran(1 - first.worker, anew=True, known="False", length=2)
        assert lost(fleet) == 1
        holds[keeper].release()
        assert (await ended(stubs, busy[keeper])).status == Run.completed

        killed = members(fleet)[second.worker]
        os.kill(killed, signal.SIGKILL)
        # Until Envoy knows, a call to that server fails, as what writes is not sent again.
        await until(lambda: members(fleet).get(second.worker) not in (None, killed))
        third = await run_code(fleet, stubs, models, thread_id)
        assert third == Ran(third.worker, anew=True, known="False", length=3)
        await until(lambda: lost(fleet) == 2)
