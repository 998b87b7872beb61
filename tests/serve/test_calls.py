"""What every call leaves behind, on both transports: counts, durations, and lines of the log."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from assistants.v1 import assistants_pb2, runs_pb2, threads_pb2

from service.calls import MAX_REQUEST_ID
from tests.serve.test_metrics import scrape, value, wait_for_value
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Stubs
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.stack import Stack, free_address
from tests.support.waiting import until

CALLS, SECONDS = "assistants_calls_total", "assistants_call_seconds_count"
NOWHERE = assistants_pb2.GetAssistantRequest(assistant_id="asst_x")


@pytest.fixture(scope="module")
def stack(model_server: ModelServer) -> Iterator[Stack]:
    """A server that logs all there is."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_METRICS_ADDRESS": free_address(),
        "ASSISTANTS_LOG_LEVEL": "debug",
    }
    with Stack(env) as stack:
        yield stack.start()
        assert stack.terminate() == 0, stack.printed()


def get(stack: Stack, path: str, **headers: str) -> tuple[int, str]:
    """Returns the status and the request id that the server answers with."""
    request = urllib.request.Request(stack.base_url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            # Who leaves before the end cancels the call.
            response.read()
            return response.status, response.headers["x-request-id"]
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-request-id"]


def logged(stack: Stack, method: str) -> list[dict[str, str]]:
    """Returns what the log has of each call of a method."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", stack.printed())
    lines = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in plain.splitlines()]
    return [line for line in lines if line.get("method") == method]


async def test_calls_are_counted_by_method_and_status(stack: Stack) -> None:
    before = scrape(stack)
    assert before[CALLS, (("method", "GetAssistant"), ("status", "OK"))] == 0
    assert get(stack, "/assistants")[0] == 200
    assert get(stack, "/assistants?order=up")[0] == 400
    assert get(stack, "/assistants/asst_x")[0] == 404
    with connect(stack.grpc_address) as stubs:
        stubs.assistants.ListAssistants(assistants_pb2.ListAssistantsRequest())
        with pytest.raises(grpc.RpcError):
            stubs.assistants.GetAssistant(NOWHERE)
    # What is written is counted afterwards.
    await wait_for_value(stack, 2, CALLS, method="ListAssistants", status="OK")
    await wait_for_value(stack, 1, CALLS, method="ListAssistants", status="INVALID_ARGUMENT")
    await wait_for_value(stack, 2, CALLS, method="GetAssistant", status="NOT_FOUND")
    assert value(stack, SECONDS, method="ListAssistants") == 3
    assert value(stack, SECONDS, method="GetAssistant") == 2


def stream(stubs: Stubs, model: str, timeout: float | None = None) -> Any:
    """Starts a run and returns its events."""
    request = runs_pb2.CreateRunRequest(
        thread_id=stubs.thread("Hi").id, assistant_id=stubs.assistant(model).id
    )
    return stubs.runs.StreamRun(request, timeout=timeout)


async def test_callers_that_do_not_wait_are_counted(stack: Stack, models: ModelServer) -> None:
    """A deadline ends the call, and not the run."""
    late, left = Hold(Answer("Hello")), Hold(Answer("Hello"))
    with connect(stack.grpc_address) as stubs:
        events = stream(stubs, models.script(late), timeout=3)
        with pytest.raises(grpc.RpcError):
            for _ in events:
                pass
        assert events.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await wait_for_value(stack, 1, CALLS, method="StreamRun", status="CANCELLED")
        events = stream(stubs, models.script(left))
        next(events)
        events.cancel()
        await wait_for_value(stack, 2, CALLS, method="StreamRun", status="CANCELLED")
    late.release()
    left.release()
    await wait_for_value(stack, 2, "assistants_run_transitions_total", status="completed")


async def test_each_call_is_logged_with_its_request_id(stack: Stack) -> None:
    _, answered = get(stack, "/threads/thread_x")
    sent = "y" * (MAX_REQUEST_ID + 1)
    with connect(stack.grpc_address) as stubs:
        for metadata in ((("x-request-id", "mine"),), (("x-request-id", sent),), ()):
            stubs.threads.ListThreads(threads_pb2.ListThreadsRequest(), metadata=metadata)
    await until(lambda: len(logged(stack, "ListThreads")) == 3)
    [line] = logged(stack, "GetThread")
    assert (line["request_id"], line["status"]) == (answered, "NOT_FOUND")
    assert [line["status"] for line in logged(stack, "ListThreads")] == ["OK"] * 3
    own, cut, made = [line["request_id"] for line in logged(stack, "ListThreads")]
    assert (own, cut) == ("mine", sent[:MAX_REQUEST_ID])
    assert re.fullmatch("[0-9a-f]{32}", made)


async def test_the_log_of_a_run_begins_with_its_request(stack: Stack, models: ModelServer) -> None:
    with connect(stack.grpc_address) as stubs:
        assistant, thread = stubs.assistant(models.script(Answer("Hello"))), stubs.thread("Hi")
        request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
        run = stubs.runs.CreateRun(request, metadata=(("x-request-id", "run-me"),))
    await until(lambda: f"run_id={run.id}" in stack.printed())
    lines = [line for line in stack.printed().splitlines() if f"run_id={run.id}" in line]
    assert "request_id=run-me" in lines[0]
