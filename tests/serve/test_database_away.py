"""A database that has gone: calls are refused at once, health says so, and all recovers."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from assistants.v1 import threads_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serve.test_recovery import start_run
from tests.support.compatibility.errors import over_rest
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs
from tests.support.link import DatabaseLink
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.script import Answer, Hold
from tests.support.stack import Stack
from tests.support.waiting import until

SOONER = 10
"""Seconds: less than what a silent connection is given, and many times what it takes."""


@pytest.fixture
def link(postgres: Postgres) -> Iterator[DatabaseLink]:
    name = postgres.create_database()
    with DatabaseLink(postgres.url(name)) as link:
        yield link
    postgres.drop_database(name)


def health(stack: Stack) -> int:
    """Returns what the server's gRPC port says of it."""
    with grpc.insecure_channel(stack.grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status)


def status(stubs: Stubs) -> grpc.StatusCode:
    """Returns how a new thread comes out."""
    try:
        stubs.thread()
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return error.code()
    return grpc.StatusCode.OK


async def test_a_database_that_falls_silent(link: DatabaseLink, models: ModelServer) -> None:
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_DATABASE_URL": link.url,
    }
    hold = Hold(Answer("Hello"))
    with Stack(settings) as stack, connect(stack.start().grpc_address) as stubs:
        script = models.script(hold)
        run = start_run(stubs, script)
        await until(hold.held.is_set)
        link.stall()
        # Also a call that has begun before the server notices.
        with pytest.raises(grpc.RpcError) as refused:
            stubs.threads.CreateThread(threads_pb2.CreateThreadRequest(), timeout=SOONER)
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "The database cannot be reached. Try again later."
        await until(lambda: health(stack) == health_pb2.HealthCheckResponse.NOT_SERVING)
        await until(lambda: not stack.healthy())
        assert over_rest(stack.base_url, "POST /threads", {})[0] == 503
        link.resume()
        await until(stack.healthy)
        assert health(stack) == health_pb2.HealthCheckResponse.SERVING
        await until(lambda: status(stubs) == grpc.StatusCode.OK)
        await until(lambda: over_rest(stack.base_url, "POST /threads", {})[0] == 200)
        # The run has gone on.
        hold.release()
        await until(lambda: stubs.get_run(run).status == Run.completed)
        assert len(models.requests(script)) == 1
        for line in ("database is gone", "database is back"):
            assert line in stack.printed()
        assert stack.terminate() == 0, stack.printed()
