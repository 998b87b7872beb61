"""Tools of the server's that break the contract of their port: runs end, or go on, all the same."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import pytest

from service.runner.tools.tool import Call, Delta, Offer, Result, ServerTool
from service.runner.turn import Turn
from service.types.tool_outputs import MAX_OUTPUT
from storage import Storage
from storage.rows import Run
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines
from tests.support.runs.own_tools import Python, definition
from tests.support.script import Answer, Calls
from tests.support.storage.rows import PROJECT, get_run

PYTHON = {"type": "code_interpreter"}
CALL = ("python", {"code": "1"})
FAILED = "The tool failed."


class Broken(ServerTool):
    """A tool that does what `work` does with the number of its call."""

    type = "code_interpreter"

    def __init__(self, work: Callable[[int], Awaitable[Result]], *, leaves: bool = True) -> None:
        self._work = work
        self._leaves = leaves
        self.calls = 0

    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer:
        return Offer(definition("python", "code"))

    async def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        self.calls += 1
        try:
            yield await self._work(self.calls)
        finally:
            if not self._leaves:
                raise RuntimeError("what it opened cannot be closed")


async def outputs(engines: Engines, models: ModelServer, tool: Broken) -> list[str]:
    """Returns what the model is given of two calls in one turn, of a run that completes."""
    model = models.script(Calls(CALL, CALL), Answer("Done"))
    following = await engines.run(engines.start(tool), model, tools=[PYTHON])
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]
    _, second = models.requests(model)
    return [turn["content"] for turn in second["messages"] if turn["role"] == "tool"]


async def test_a_tool_whose_own_task_was_cancelled_has_failed(
    engines: Engines, models: ModelServer
) -> None:
    async def work(number: int) -> Result:
        if number == 1:
            raise asyncio.CancelledError
        return Result("Fine")

    assert await outputs(engines, models, Broken(work)) == [FAILED, "Fine"]


async def test_a_result_counts_though_the_tool_cannot_be_left(
    engines: Engines, models: ModelServer
) -> None:
    async def work(number: int) -> Result:
        return Result(f"Result {number}")

    tool = Broken(work, leaves=False)
    assert await outputs(engines, models, tool) == ["Result 1", "Result 2"]


async def test_a_huge_result_is_cut(engines: Engines, models: ModelServer) -> None:
    async def work(number: int) -> Result:
        return Result("x" * (MAX_OUTPUT + number - 1))

    assert await outputs(engines, models, Broken(work)) == ["x" * MAX_OUTPUT] * 2


async def test_no_other_call_begins_when_a_tool_ignores_that_it_is_broken_off(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    begun = asyncio.Event()

    async def work(number: int) -> Result:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return Result("Fine")
        raise AssertionError

    engine = engines.start(tool := Broken(work))
    following = await engines.run(engine, models.script(Calls(CALL, CALL)), tools=[PYTHON])
    await begun.wait()
    run = following.run
    await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    assert (await following.ended())[-2:] == ["thread.run.cancelled", "done"]
    assert tool.calls == 1


async def test_a_tool_that_cannot_be_offered_is_not_available(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def offer(tool: Python, run: Run, given: Mapping[str, Any]) -> Offer:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Python, "offer", offer)
    following = await engines.run(engines.start(Python()), models.script(), tools=[PYTHON])
    assert (await following.ended())[-2:] == ["thread.run.failed", "done"]
    run = await get_run(storage, following.run)
    message = "Tool 'code_interpreter' is not available on this server."
    assert run.last_error == {"code": "server_error", "message": message}


async def test_a_turn_that_is_cancelled_without_a_stop_fails_the_run(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take(turn: Turn) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(Turn, "take", take)
    following = await engines.run(engines.start(), models.script())
    assert (await following.ended())[-2:] == ["thread.run.failed", "done"]
    run = await get_run(storage, following.run)
    assert run.last_error is not None
    assert run.last_error["code"] == "server_error"
