"""The code interpreter of a server as an operator has it: its start, its end, and what is left."""

import sys
from pathlib import Path

import pytest
from assistants.v1 import common_pb2, messages_pb2, runs_pb2

from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs
from tests.support.model_server import ModelServer
from tests.support.sandbox.calls import commands_with
from tests.support.script import Answer, Calls
from tests.support.stack import Stack, StartFailed
from tests.support.waiting import until

ENV = {
    "ASSISTANTS_LEASE_SECONDS": "1",
    "ASSISTANTS_SANDBOX": "auto",
    "ASSISTANTS_MODEL_RETRIES": "0",
}


def python(code: str) -> Calls:
    return Calls(("python", {"code": code}))


def start_run(stubs: Stubs, model: str, thread_id: str = "") -> Run:
    assistant = stubs.assistant(model, tools=[common_pb2.Tool(type="code_interpreter")])
    thread_id = thread_id or stubs.thread("Hi").id
    request = runs_pb2.CreateRunRequest(thread_id=thread_id, assistant_id=assistant.id)
    run: Run = stubs.runs.CreateRun(request)
    return run


def logs(stubs: Stubs, run: Run) -> list[str]:
    """Returns the logs of a run's calls, oldest first."""
    request = runs_pb2.ListRunStepsRequest(thread_id=run.thread_id, run_id=run.id, order="asc")
    return [
        "".join(output.logs for output in call.code_interpreter.outputs)
        for step in stubs.runs.ListRunSteps(request).data
        for call in step.tool_calls.tool_calls
    ]


async def ended(stubs: Stubs, run: Run) -> Run:
    """Waits for a run's end."""
    await until(lambda: stubs.get_run(run).status not in (Run.queued, Run.in_progress))
    return stubs.get_run(run)


async def test_a_run_whose_server_is_killed_in_a_call_is_taken_up_again(
    models: ModelServer,
) -> None:
    first = python("open('kept', 'w').write('kept')\nx = 1")
    # The first time, it waits for ever.
    second = "import os, time\nif 'x' in globals(): open('begun', 'w'); time.sleep(1000)\n"
    second += "print('x' in globals(), open('kept').read())"
    model = models.script(first, python(second), python(second), Answer("Here you are."))
    env = ENV | {"ASSISTANTS_MODEL_BASE_URL": models.base_url}
    with Stack(env) as stack:
        stack.start()
        root = stack.directory / "data" / "threads"
        with connect(stack.grpc_address) as stubs:
            run = start_run(stubs, model)
            await until(lambda: list(root.glob("*/data/begun")))
            assert commands_with(str(root))
        stack.kill()
        await until(lambda: not commands_with(str(root)))
        stack.start()
        with connect(stack.grpc_address) as stubs:
            assert (await ended(stubs, run)).status == Run.completed
            before, again = logs(stubs, run)
            assert before == ""
            assert again == (
                "[The Python session was started anew, as the one before has ended: the server was "
                "stopped. Variables and imports are gone, files in /mnt/data are kept.]\n"
                "False kept\n"
            )
            assert stubs.texts(run.thread_id)[-1] == ("assistant", "Here you are.")
        assert stack.terminate() == 0, stack.printed()
        assert not commands_with(str(root))
        assert "Traceback" not in stack.printed()


async def test_a_drain_ends_sessions_and_the_next_server_says_so(models: ModelServer) -> None:
    model = models.script(python("x = 1"), Answer("Done."))
    env = ENV | {"ASSISTANTS_MODEL_BASE_URL": models.base_url}
    with Stack(env) as stack:
        stack.start()
        with connect(stack.grpc_address) as stubs:
            run = start_run(stubs, model)
            assert (await ended(stubs, run)).status == Run.completed
        assert stack.terminate() == 0, stack.printed()
        assert not commands_with(str(stack.directory / "data" / "threads"))
        stack.start()
        with connect(stack.grpc_address) as stubs:
            again = start_run(stubs, models.script(python("2"), Answer("Two.")), run.thread_id)
            await ended(stubs, again)
            [said] = logs(stubs, again)
            assert "the server was stopped" in said
            assert said.endswith("]\n2\n")
        assert stack.terminate() == 0, stack.printed()


async def test_the_start_says_which_engine_there_is(models: ModelServer) -> None:
    env = ENV | {"ASSISTANTS_MODEL_BASE_URL": models.base_url}
    with Stack(env) as stack:
        stack.start()
        await until(lambda: "code interpreter is on" in stack.printed())
        assert "engine=bubblewrap" in stack.printed() or "engine=landlock" in stack.printed()
        assert stack.terminate() == 0, stack.printed()


async def test_where_none_works_the_start_says_why_and_runs_fail(models: ModelServer) -> None:
    env = ENV | {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_INTERPRETER_PYTHON": "/nowhere/python",
    }
    with Stack(env) as stack:
        stack.start()
        reason = "there is no interpreter at /nowhere/python"
        await until(lambda: "code interpreter is off" in stack.printed())
        assert reason in stack.printed()
        with connect(stack.grpc_address) as stubs:
            run = await ended(stubs, start_run(stubs, models.script()))
            assert run.status == Run.failed
            assert reason in run.last_error.message
        assert stack.terminate() == 0, stack.printed()


async def test_a_command_starts_sessions_elsewhere(models: ModelServer, tmp_path: Path) -> None:
    script = tmp_path / "elsewhere"
    script.write_text(
        f"#!/bin/sh\necho started >> {tmp_path}/starts\n"
        f"export ASSISTANTS_SANDBOX_DATA=$(mktemp -d {tmp_path}/far-XXXXXX)\n"
        'exec "$@"\n'
    )
    script.chmod(0o755)
    env = ENV | {
        "ASSISTANTS_MODEL_BASE_URL": models.base_url,
        "ASSISTANTS_SANDBOX": "command",
        "ASSISTANTS_SANDBOX_COMMAND": f"sh '{script}'",
        "ASSISTANTS_INTERPRETER_PYTHON": f"{Path(sys.prefix) / 'interpreter/bin/python'}",
    }
    with Stack(env) as stack:
        stack.start()
        assert not (tmp_path / "starts").exists()
        with connect(stack.grpc_address) as stubs:
            code = "open('/mnt/data/a.txt', 'w').write('far')"
            model = models.script(python(code), Answer("[a](sandbox:/mnt/data/a.txt)"))
            run = await ended(stubs, start_run(stubs, model))
            assert run.status == Run.completed
            assert logs(stubs, run) == ["3\n"]
            request = messages_pb2.ListMessagesRequest(thread_id=run.thread_id, limit=1)
            [message] = stubs.messages.ListMessages(request).data
            [annotation] = message.content[0].text.annotations
            assert annotation.text == "sandbox:/mnt/data/a.txt"
            assert annotation.file_path == message.attachments[0].file_id
        assert (tmp_path / "starts").read_text() == "started\n"
        assert "engine=command" in stack.printed()
        assert stack.terminate() == 0, stack.printed()


def test_a_command_is_needed() -> None:
    with Stack({"ASSISTANTS_SANDBOX": "command"}) as stack, pytest.raises(StartFailed) as failed:
        stack.start()
    assert "ASSISTANTS_SANDBOX=command needs ASSISTANTS_SANDBOX_COMMAND" in str(failed.value)
