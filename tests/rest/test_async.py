"""The asynchronous client, and several runs at once."""

import asyncio

import openai
from openai import AsyncAssistantEventHandler
from openai.types.beta.threads import Text, TextDelta

from tests.support.model_server import ModelServer
from tests.support.rest.scene import POLL, text_of
from tests.support.rest.wire import Wire
from tests.support.script import Answer
from tests.support.sequences import PLAIN, folded


class Handler(AsyncAssistantEventHandler):
    """Keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self.text += delta.value or ""
        assert snapshot.value == self.text


async def test_polling(async_client: openai.AsyncOpenAI, models: ModelServer) -> None:
    beta = async_client.beta
    assistant = await beta.assistants.create(model=models.script(Answer("Yes.")))
    thread = await beta.threads.create(messages=[{"role": "user", "content": "Well?"}])
    run = await beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=POLL
    )
    assert run.status == "completed"
    messages = beta.threads.messages.list(thread.id, limit=1)
    assert [text_of(message) async for message in messages] == ["Yes.", "Well?"]


async def test_streaming(async_client: openai.AsyncOpenAI, models: ModelServer, wire: Wire) -> None:
    beta = async_client.beta
    assistant = await beta.assistants.create(model=models.script(Answer("Hello there")))
    thread = await beta.threads.create(messages=[{"role": "user", "content": "Well?"}])
    async with beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=Handler()
    ) as stream:
        await stream.until_done()
    assert folded(wire.event_names) == PLAIN
    assert stream.text == "Hello there"
    assert (await stream.get_final_run()).status == "completed"


async def test_twenty_streams_at_once(
    async_client: openai.AsyncOpenAI, models: ModelServer
) -> None:
    beta = async_client.beta

    async def ask(number: int) -> str:
        text = f"Number {number}"
        assistant = await beta.assistants.create(model=models.script(Answer(text)))
        async with beta.threads.create_and_run_stream(assistant_id=assistant.id) as stream:
            streamed = "".join([delta async for delta in stream.text_deltas])
        run = await stream.get_final_run()
        assert streamed == text, run
        return run.status

    assert await asyncio.gather(*map(ask, range(20))) == ["completed"] * 20
