"""Envoy and the embedded model: restarted when they die, gone when the server is."""

import signal
import sqlite3

import pytest

from service.process.probe import http_status
from tests.support.grpc.client import connect
from tests.support.model_server import ModelServer
from tests.support.serve.processes import kill, pid_of_envoy, processes_of
from tests.support.stack import Stack
from tests.support.waiting import until


async def test_children_die_with_a_server_that_is_killed() -> None:
    with Stack() as stack:
        stack.start()
        names = sorted(processes_of(stack).values())
        assert len(names) == 3, names
        assert "envoy" in names
        stack.kill()
        await until(lambda: processes_of(stack) == {})


async def test_a_dead_envoy_is_restarted(model_server: ModelServer) -> None:
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        stack.start()
        first = pid_of_envoy(stack)
        kill(first)
        await until(lambda: pid_of_envoy(stack) not in (None, first))
        await until(stack.healthy)
        assert "child died" in stack.printed()
        assert "child restarted" in stack.printed()
        with connect(stack.env["ASSISTANTS_HTTP_ADDRESS"]) as stubs:
            assert stubs.thread().id
        assert stack.terminate() == 0, stack.printed()
        assert processes_of(stack) == {}


async def test_healthz_is_503_until_the_server_serves(model_server: ModelServer) -> None:
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        address = stack.env["ASSISTANTS_HTTP_ADDRESS"]
        data = stack.directory / "data"
        data.mkdir()
        # The server waits for the database before it serves, and Envoy does not.
        with sqlite3.connect(data / "assistants.db", isolation_level=None) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            process = stack.spawn()
            while (status := await http_status(address, "/healthz")) is None:
                assert process.poll() is None, stack.printed()
            assert status == 503
            database.execute("ROLLBACK")
        database.close()
        await until(stack.healthy)
        process.send_signal(signal.SIGSTOP)
        await until(lambda: not stack.healthy())
        assert await http_status(address, "/healthz") == 503
        process.send_signal(signal.SIGCONT)
        await until(stack.healthy)
        assert stack.terminate() == 0, stack.printed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_the_server_starts(
    model_server: ModelServer, number: signal.Signals
) -> None:
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        process = stack.spawn()
        await until(lambda: pid_of_envoy(stack) is not None or process.poll() is not None)
        process.send_signal(number)
        await until(lambda: process.poll() is not None)
        assert process.returncode == 0, stack.printed()
        assert "Traceback" not in stack.printed()
        assert processes_of(stack) == {}
