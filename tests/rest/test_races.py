"""What callers do at the same moment: whatever comes first, every stream is whole and true."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import POLL, function, outputs, text_of
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Hold

TEXT = "one two three four"
MOMENTS = range(1, 17, 2)
"""How many events of a run are read before something happens to it."""

Act = Callable[[Any], Awaitable[object]]


async def _stream(client: openai.AsyncOpenAI, model: str, moment: int, act: Act) -> Any:
    """Streams a run, does something at some moment, and returns the run as the stream ends it."""
    assistant = await client.beta.assistants.create(model=model)
    acting: asyncio.Task[object] | None = None
    run: Any = None
    events = await client.beta.threads.create_and_run(assistant_id=assistant.id, stream=True)
    number = 0
    async for event in events:
        if event.event.startswith("thread.run.") and "step" not in event.event:
            run = event.data
        if run is not None and number >= moment and acting is None:
            acting = asyncio.ensure_future(_attempt(act, run))
        number += 1
    if acting is not None:
        await acting
    return run


async def _attempt(act: Act, run: Any) -> None:
    try:
        await act(run)
    except openai.BadRequestError as refused:
        assert "Cannot cancel run with status" in refused.message


async def test_cancelling(async_client: openai.AsyncOpenAI, models: ModelServer) -> None:
    runs = async_client.beta.threads.runs

    async def cancel(run: Any) -> None:
        await runs.cancel(run.id, thread_id=run.thread_id)

    async def race(moment: int) -> None:
        model = models.script(Answer(TEXT))
        run = await _stream(async_client, model, moment, cancel)
        assert run.status in ("completed", "cancelled")
        assert run == await runs.retrieve(run.id, thread_id=run.thread_id)
        async for message in async_client.beta.threads.messages.list(run.thread_id):
            assert message.status == ("completed" if run.status == "completed" else "incomplete")
            assert TEXT.startswith(text_of(message))

    await asyncio.gather(*map(race, MOMENTS))


async def test_deleting_the_thread(
    async_client: openai.AsyncOpenAI, models: ModelServer, wire: Wire
) -> None:
    threads = async_client.beta.threads

    async def delete(run: Any) -> None:
        await threads.delete(run.thread_id)

    async def race(moment: int) -> None:
        model = models.script(Answer(TEXT))
        run = await _stream(async_client, model, moment, delete)
        assert run.status in ("completed", "cancelled")

    await asyncio.gather(*map(race, MOMENTS))
    streams = [exchange for exchange in wire.exchanges if exchange.events]
    assert len(streams) == len(MOMENTS)
    assert all(stream.events[-1][0] == "done" for stream in streams)


async def test_two_runs_of_one_thread(
    async_client: openai.AsyncOpenAI, models: ModelServer
) -> None:
    hold = Hold(Answer("Yes."))
    assistant = await async_client.beta.assistants.create(model=models.script(hold))
    thread = await async_client.beta.threads.create()
    runs = async_client.beta.threads.runs

    async def start() -> Any:
        try:
            return await runs.create(thread.id, assistant_id=assistant.id)
        except openai.BadRequestError as refused:
            return refused

    results = await asyncio.gather(*(start() for _ in range(8)))
    [run] = [result for result in results if not isinstance(result, openai.BadRequestError)]
    for refused in results:
        assert refused is run or f"already has an active run {run.id}." in refused.message
    hold.release()
    run = await runs.poll(run.id, thread_id=thread.id, poll_interval_ms=POLL)
    assert run.status == "completed"


@pytest.mark.parametrize("stream", [False, True])
async def test_outputs_that_are_submitted_twice(
    async_client: openai.AsyncOpenAI, models: ModelServer, stream: bool
) -> None:
    beta = async_client.beta
    model = models.script(Calls(("look", {})), Answer("Yes."))
    assistant = await beta.assistants.create(model=model, tools=[function("look")])
    run = await beta.threads.create_and_run_poll(assistant_id=assistant.id, poll_interval_ms=POLL)
    given = outputs(run, "seen")

    async def submit() -> bool:
        try:
            result: Any = await beta.threads.runs.submit_tool_outputs(
                run.id, thread_id=run.thread_id, tool_outputs=given, stream=stream
            )
        except openai.BadRequestError as refused:
            assert "do not accept tool outputs" in refused.message
            return False
        if stream:
            names = [event.event async for event in result]
            assert names[0] == "thread.run.step.completed"
        return True

    assert sorted(await asyncio.gather(*(submit() for _ in range(4)))) == [False] * 3 + [True]
    run = await beta.threads.runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=POLL)
    assert run.status == "completed"
