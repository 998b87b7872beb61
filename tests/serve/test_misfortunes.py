"""Servers that hang, disks that are full, readers that stopped reading, settings that are none."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import openai
import pytest
from assistants.v1 import runs_pb2, threads_pb2

from tests.support.compatibility.errors import over_rest
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs, user
from tests.support.hostile.http1 import Connection, head
from tests.support.long import Long
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.stack import COMMAND, Stack, serving
from tests.support.waiting import until

NOT_AVAILABLE = "The server is not available right now. Try again later."
NO_SPACE = "The server has no space left to store this. Try again later."


async def test_a_server_that_hangs(model_server: ModelServer) -> None:
    """Calls are refused while it does, on both transports, and it is back by itself."""
    with serving({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        assert stack.process
        with connect(stack.env["ASSISTANTS_HTTP_ADDRESS"]) as stubs:
            stack.process.send_signal(signal.SIGSTOP)
            try:
                await until(lambda: not stack.healthy())
                status, body = over_rest(stack.base_url, "GET /assistants", None)
                assert (status, body["error"]["message"]) == (503, NOT_AVAILABLE)
                await until(lambda: _status(stubs.thread) == grpc.StatusCode.UNAVAILABLE)
            finally:
                stack.process.send_signal(signal.SIGCONT)
            await until(stack.healthy)
            assert over_rest(stack.base_url, "GET /assistants", None)[0] == 200
            await until(lambda: _status(stubs.thread) is None)


def _status(call: Callable[[], object]) -> grpc.StatusCode | None:
    try:
        call()
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return error.code()
    return None


@pytest.fixture
def small_disk(model_server: ModelServer) -> Iterator[tuple[Stack, Path]]:
    """A server whose data is on a disk of 8 MiB that only it sees, and where we find that disk."""
    script = 'mkdir data && mount -t tmpfs -o size=8m none data && exec "$0" serve'
    command = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, COMMAND)
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}, command) as stack:
        stack.start()
        assert stack.process
        # `unshare` and `sh` have become the server.
        yield stack, Path(f"/proc/{stack.process.pid}/root/{stack.directory}/data")
        assert stack.terminate() == 0, stack.printed()


async def test_a_full_disk(small_disk: tuple[Stack, Path], models: ModelServer) -> None:
    stack, disk = small_disk
    hold = Hold(Answer("Hello there"), after="Hello")
    # What is stored meanwhile fits nowhere; the log says so, and calls are to be repeated.
    with openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=0) as client:
        thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
        assistant = client.beta.assistants.create(model=models.script(hold, Answer("Hello again")))
        run = client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
        await until(hold.held.is_set)
        _fill(disk)
        metadata = {f"key{number}": "x" * 512 for number in range(16)}
        body = json.loads(json.dumps({"metadata": metadata}))
        await until(lambda: over_rest(stack.base_url, "POST /threads", body)[0] != 200)
        status, answer = over_rest(stack.base_url, "POST /threads", body)
        assert (status, answer["error"]["type"]) == (503, "server_error")
        assert answer["error"]["message"] == NO_SPACE
        with connect(stack.grpc_address) as stubs, pytest.raises(grpc.RpcError) as refused:
            stubs.threads.CreateThread(threads_pb2.CreateThreadRequest(metadata=metadata))
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert client.beta.threads.retrieve(thread.id) == thread
        assert "disk full: nothing can be stored until it has space" in stack.printed()
        assert "Traceback" not in stack.printed()
        (disk / "filler").unlink()
        assert over_rest(stack.base_url, "POST /threads", body)[0] == 200
        hold.release()
        await until(
            lambda: (
                client.beta.threads.runs.retrieve(run.id, thread_id=thread.id).status == "completed"
            )
        )


def _fill(disk: Path) -> None:
    """Leaves no byte of the disk."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        size = 2**16
        while size:
            try:
                filler.write(b"x" * min(size, max(shutil.disk_usage(disk).free, 1)))
            except OSError:
                size //= 2


async def test_readers_that_stopped_reading(models: ModelServer) -> None:
    """They hold up no server whose runs have ended, however long the grace is."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_SHUTDOWN_GRACE": "600",
    }
    with Stack(settings) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs, Connection(stack, receive_buffer=4096) as reader:
            assistant = stubs.assistant(models.script(Long(4), Long(4)))
            new = threads_pb2.NewThread(messages=[user("Hi")])
            request = runs_pb2.CreateThreadAndRunRequest(assistant_id=assistant.id, thread=new)
            stream = stubs.runs.StreamThreadAndRun(request)
            thread = next(stream).thread
            body = json.dumps({"assistant_id": assistant.id, "stream": True, "thread": {}}).encode()
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            reader.send(head("POST", "/v1/threads/runs", headers), body)
            await until(lambda: _completed(stubs, thread.id))
            assert stack.terminate() == 0, stack.printed()
            assert "Traceback" not in stack.printed()


def _completed(stubs: Stubs, thread_id: str) -> bool:
    runs = stubs.runs.ListRuns(runs_pb2.ListRunsRequest(thread_id=thread_id)).data
    return [run.status for run in runs] == [Run.completed]


def test_settings_that_are_none(model_server: ModelServer) -> None:
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_RETRY": "2",
        "ASSISTANTS_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    with serving(settings) as stack:
        [line] = [line for line in stack.printed().splitlines() if "unknown setting" in line]
        assert "warning" in line
        assert "ASSISTANTS_MODEL_RETRIES" in line
