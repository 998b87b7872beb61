"""SIGTERM: no new calls, runs in progress get their grace, and every stream gets its end."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from assistants.v1 import runs_pb2, threads_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, RunEvent, Stubs, last_run, names, user, whole
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.serve.processes import processes_of
from tests.support.stack import Stack
from tests.support.waiting import until


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def stack_of(models: ModelServer, **settings: object) -> Stack:
    env = {f"ASSISTANTS_{name.upper()}": str(value) for name, value in settings.items()}
    return Stack({"ASSISTANTS_MODEL_BASE_URL": models.base_url} | env)


def read(events: Iterable[RunEvent], so_far: list[RunEvent] | None = None) -> list[RunEvent]:
    """Returns all events, and shows in `so_far` what has come."""
    read = [] if so_far is None else so_far
    read.extend(events)
    return read


def stream(stubs: Stubs, model: str) -> Iterator[RunEvent]:
    request = runs_pb2.CreateThreadAndRunRequest(
        assistant_id=stubs.assistant(model).id, thread=threads_pb2.NewThread(messages=[user("Hi")])
    )
    events: Iterator[RunEvent] = stubs.runs.StreamThreadAndRun(request)
    return events


def stream_over_rest(stack: Stack, assistant_id: str, so_far: list[bytes] | None = None) -> str:
    """Returns the whole body, and shows in `so_far` which lines have come."""
    body = {"assistant_id": assistant_id, "stream": True, "thread": {"messages": []}}
    lines = [] if so_far is None else so_far
    with post(stack, "/threads/runs", body) as response:
        lines.extend(response)
    return b"".join(lines).decode()


def post(stack: Stack, path: str, body: object) -> "urllib.request._UrlopenRet":
    request = urllib.request.Request(
        stack.base_url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=60)


async def test_a_run_that_ends_in_time(models: ModelServer, threads: ThreadPoolExecutor) -> None:
    held = [Hold(Answer("Hello there"), after="Hello") for _ in range(2)]
    with stack_of(models, shutdown_grace=60) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            over_grpc = threads.submit(read, stream(stubs, models.script(held[0])))
            assistant = stubs.assistant(models.script(held[1]))
            over_rest = threads.submit(stream_over_rest, stack, assistant.id)
            for each in held:
                await until(each.held.is_set)
            assert stack.process
            stack.process.send_signal(signal.SIGTERM)
            await until(lambda: not stack.healthy())
            await until(lambda: refused(stack))
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(stack, "/threads", {})
            assert caught.value.code == 503
            assert json.loads(caught.value.read())["error"]["type"] == "server_error"
            assert not over_grpc.done()
            assert not over_rest.done()
            for each in held:
                each.release()
            events = whole(over_grpc.result(60))
            assert names(events)[-2:] == ["thread.run.completed", "done"]
            text = over_rest.result(60)
            assert "event: thread.run.completed\n" in text
            assert text.endswith("event: done\ndata: [DONE]\n\n")
        assert stack.process.wait(60) == 0, stack.printed()
        assert "Traceback" not in stack.printed()
        assert processes_of(stack) == {}


def refused(stack: Stack) -> bool:
    """Whether the gRPC port takes no new calls."""
    with connect(stack.grpc_address) as stubs:
        try:
            stubs.thread()
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return error.code() == grpc.StatusCode.UNAVAILABLE
        return False


async def test_a_run_that_does_not_end_in_time(
    models: ModelServer, threads: ThreadPoolExecutor
) -> None:
    held = [Hold(Answer("Hello there"), after="Hello") for _ in range(2)]
    scripts = [models.script(each, Answer("Hello again")) for each in held]
    # A lease that is not given back would outlast the test.
    with stack_of(models, shutdown_grace=0, lease_seconds=600) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            so_far: list[RunEvent] = []
            lines: list[bytes] = []
            over_grpc = threads.submit(read, stream(stubs, scripts[0]), so_far)
            assistant = stubs.assistant(scripts[1])
            over_rest = threads.submit(stream_over_rest, stack, assistant.id, lines)
            await until(lambda: "thread.message.delta" in names(so_far))
            await until(lambda: b"event: thread.message.delta\n" in lines)
            assert stack.terminate() == 0, stack.printed()
            events = over_grpc.result(60)
            assert names(events)[-3:] == [
                "thread.message.incomplete",
                "thread.run.step.failed",
                "error",
            ]
            assert events[-1].error.type == "server_error"
            last = over_rest.result(60).rstrip().split("\n\n")[-1]
            assert last.startswith("event: error\n")
        assert processes_of(stack) == {}
        for each in held:
            await until(each.disconnected.is_set)

        stack.start()
        run = last_run(events)
        with connect(stack.grpc_address) as stubs:
            await until(lambda: stubs.get_run(run).status == Run.completed)
            assert stubs.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Hello again")]
            for script in scripts:
                await until(lambda script=script: len(models.requests(script)) == 2)  # type: ignore[misc]
        assert stack.terminate() == 0, stack.printed()


async def test_a_stream_that_never_ends_does_not_hold_the_server_up(models: ModelServer) -> None:
    with stack_of(models, shutdown_grace=0) as stack:
        stack.start()
        with grpc.insecure_channel(stack.grpc_address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            statuses = [next(watch).status]
            assert stack.terminate() == 0, stack.printed()
            with pytest.raises(grpc.RpcError):
                statuses.extend(each.status for each in watch)
        assert statuses[0] == health_pb2.HealthCheckResponse.SERVING
        assert "Traceback" not in stack.printed()


async def test_a_run_that_is_queued(models: ModelServer, threads: ThreadPoolExecutor) -> None:
    held = Hold(Answer("Hello"))
    with stack_of(models, shutdown_grace=0, worker_concurrency=1) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            first = threads.submit(read, stream(stubs, models.script(held, Answer("Hello"))))
            await until(held.held.is_set)
            queued = stream(stubs, models.script(Answer("Hello")))
            events = [next(queued) for _ in range(3)]
            assert names(events)[-1] == "thread.run.queued"
            assert stack.terminate() == 0, stack.printed()
            assert names([*events, *queued])[-1] == "error"
            assert names(first.result(60))[-1] == "error"
        stack.start()
        with connect(stack.grpc_address) as stubs:
            for run in (last_run(first.result()), last_run(events)):
                await until(lambda run=run: stubs.get_run(run).status == Run.completed)  # type: ignore[misc]
        assert stack.terminate() == 0, stack.printed()
