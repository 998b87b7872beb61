"""What breaks into calls: ends of runs, of sessions and of threads."""

import asyncio
import os
from pathlib import Path

import pytest

from service.runner.tools.code_interpreter import CodeInterpreter
from service.runner.tools.session_register import SessionRegister
from service.sandbox.limits import Lifetimes
from service.sandbox.settings import SandboxSettings
from storage import Storage
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.interpreters import (
    PYTHON,
    Interpreter,
    calls,
    code,
    interpreting,
    logs,
    outputs,
    ran,
)
from tests.support.sandbox.calls import commands_with
from tests.support.script import Answer
from tests.support.storage.rows import PROJECT, get_run
from tests.support.waiting import until

ENDLESS = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.1)"


async def begun(following: Following) -> None:
    """Waits until the endless code runs."""

    def shown() -> bool:
        pieces = [piece for event in following.events for piece in event.run_step_delta.tool_calls]
        return any(each.logs for piece in pieces for each in piece.code_interpreter.outputs)

    await until(shown)


def running(interpreter: Interpreter) -> list[int]:
    """Returns the processes of sessions."""
    return commands_with(os.fspath(interpreter.root))


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_whatever_ends_the_run_kills_the_code(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage, how: str
) -> None:
    engine = engines.start(interpreter.tool)
    model = models.script(code(ENDLESS))
    lifetime = 600 if how == "cancelled" else 5
    following = await engines.run(engine, model, tools=[PYTHON], lifetime=lifetime)
    await begun(following)
    assert running(interpreter)
    if how == "cancelled":
        run = following.run
        await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    assert (await following.ended())[-2] == f"thread.run.{how}"
    await until(lambda: not running(interpreter))
    [step] = await engines.steps(following.run)
    assert step.status == how
    assert await calls(engines, following.run) == [{"input": ENDLESS, "outputs": logs("begun\n")}]


async def test_a_deleted_thread_takes_its_session_and_its_files_along(
    engines: Engines, interpreter: Interpreter, models: ModelServer, storage: Storage
) -> None:
    engine = engines.start(interpreter.tool)
    following = await engines.run(engine, models.script(code(ENDLESS)), tools=[PYTHON])
    await begun(following)
    run = following.run
    assert (interpreter.root / run.thread_id).exists()
    for ended in await storage.threads.delete(PROJECT, run.thread_id):
        await engine.announce(ended)
    engine.forget(run.thread_id)
    await following.ended()
    await until(lambda: not running(interpreter))
    await until(lambda: not (interpreter.root / run.thread_id).exists())


async def test_a_call_that_takes_too_long(
    engines: Engines, storage: Storage, root: Path, models: ModelServer
) -> None:
    async with interpreting(storage, root, seconds=1) as interpreter:
        slow = "x = 1\nimport time\ntime.sleep(1000)"
        following = await ran(engines, interpreter, models, code(slow), code("x"), Answer("Slow."))
        first, second = await calls(engines, following.run)
        assert "KeyboardInterrupt" in first["outputs"][0]["logs"]
        assert first["outputs"][0]["logs"].endswith(
            "[The code was interrupted: it took longer than 1 seconds.]\n"
        )
        assert second["outputs"] == logs("1\n")


async def test_a_session_that_ends_in_a_call(
    engines: Engines, interpreter: Interpreter, models: ModelServer
) -> None:
    lost = "open('kept', 'w').write('kept')\nimport os\nos._exit(3)"
    following = await ran(
        engines, interpreter, models, code(lost), code("open('kept').read()"), Answer("Lost.")
    )
    first, second = await calls(engines, following.run)
    assert "The Python session has ended: its process ended" in first["outputs"][0]["logs"]
    assert second["outputs"] == logs("'kept'\n")
    assert "files in /mnt/data are kept" in outputs(models, following.run)[0]


async def test_without_a_sandbox_the_run_fails(
    engines: Engines, storage: Storage, root: Path, models: ModelServer
) -> None:
    async with interpreting(storage, root) as made:
        settings, register = (
            SandboxSettings(root, engine="off"),
            SessionRegister(storage.sessions, ""),
        )
        tool = CodeInterpreter(settings, storage.threads, made.files, register)
        tool.start()
        following = await engines.run(engines.start(tool), models.script(), tools=[PYTHON])
        assert (await following.ended())[-2] == "thread.run.failed"
        run = await get_run(storage, following.run)
        assert run.last_error == {
            "code": "server_error",
            "message": "Tool 'code_interpreter' is not available on this server: "
            "it is switched off.",
        }
        await tool.close()


async def test_sessions_of_many_threads_take_turns(
    engines: Engines, storage: Storage, root: Path, models: ModelServer
) -> None:
    async with interpreting(storage, root, Lifetimes(sessions=1)) as interpreter:
        engine = engines.start(interpreter.tool)
        several = [
            await engines.run(engine, models.script(code(f"{at}"), Answer("Done.")), tools=[PYTHON])
            for at in range(3)
        ]
        await asyncio.gather(*(each.ended() for each in several))
        for at, following in enumerate(several):
            assert await calls(engines, following.run) == [
                {"input": f"{at}", "outputs": logs(f"{at}\n")}
            ]
