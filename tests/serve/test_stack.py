"""The stack's fixtures work: the server serves, answers through both clients, and ends well."""

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.script import Answer
from tests.support.stack import Stack, StartFailed


def test_the_server_serves(server: Stack) -> None:
    assert server.healthy()


def test_a_run_is_answered_by_the_scripted_model(
    client: openai.OpenAI, models: ModelServer
) -> None:
    model = models.script(Answer("Hello there"))
    assistant = client.beta.assistants.create(model=model)
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "hi"}]}
    )
    assert (run.status, run.last_error) == ("completed", None)
    [answer] = client.beta.threads.messages.list(run.thread_id, run_id=run.id).data
    assert answer.content[0].type == "text"
    assert answer.content[0].text.value == "Hello there"
    [request] = models.requests(model)
    assert request["messages"] == [{"role": "user", "content": "hi"}]


async def test_the_asynchronous_client(async_client: openai.AsyncOpenAI) -> None:
    thread = await async_client.beta.threads.create()
    assert (await async_client.beta.threads.retrieve(thread.id)).id == thread.id


def test_data_outlives_a_server_that_is_killed(model_server: ModelServer) -> None:
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        with openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=0) as client:
            stack.start()
            thread = client.beta.threads.create()
            stack.kill()
            assert not stack.healthy()
            stack.start()
            assert client.beta.threads.retrieve(thread.id) == thread
        assert stack.terminate() == 0, stack.printed()


def test_a_server_that_cannot_start_says_why() -> None:
    broken = Stack({"ASSISTANTS_WORKER_CONCURRENCY": "none"})
    with broken, pytest.raises(StartFailed, match=r"exit code 2\n.*ASSISTANTS_WORKER_CONCURRENCY"):
        broken.start()
