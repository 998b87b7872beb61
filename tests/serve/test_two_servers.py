"""Two servers on one PostgreSQL database: either executes, cancels and takes over runs."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from assistants.v1 import runs_pb2

from tests.serve.test_recovery import start_run
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run, Stubs, function
from tests.support.model_server import ModelServer
from tests.support.postgres import Postgres
from tests.support.script import Answer, Calls, Hold
from tests.support.stack import Stack
from tests.support.waiting import until


@pytest.fixture
def stacks(postgres: Postgres, model_server: ModelServer) -> Iterator[tuple[Stack, Stack]]:
    """Two servers that execute one run each, and notice soon what the other does not do."""
    name = postgres.create_database()
    env = {
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
        "ASSISTANTS_LEASE_SECONDS": "1",
    }
    with Stack(env) as one, Stack(env) as other:
        yield one.start(), other.start()
        for stack in (one, other):
            if stack.process is not None and stack.process.poll() is None:
                assert stack.terminate() == 0, stack.printed()
            assert "Traceback" not in stack.printed()
    postgres.drop_database(name)


async def test_two_servers(stacks: tuple[Stack, Stack], models: ModelServer) -> None:
    one, other = stacks
    first, second = Hold(Answer("First"), after="F"), Hold(Answer("Second"), after="S")
    taken_over = models.script(second, Answer("Again"))
    with connect(one.grpc_address) as mine, connect(other.grpc_address) as others:
        busy = start_run(mine, models.script(first))
        await until(first.held.is_set)

        # Executed by the other, as this one has its hands full.
        run = start_run(mine, models.script(Answer("Hello")))
        await until(lambda: mine.get_run(run).status == Run.completed)
        assert not first.disconnected.is_set()
        assert others.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Hello")]

        # Cancelled by the other.
        request = runs_pb2.CancelRunRequest(thread_id=busy.thread_id, run_id=busy.id)
        assert others.runs.CancelRun(request).status == Run.cancelling
        await until(first.disconnected.is_set)
        await until(lambda: others.get_run(busy).status == Run.cancelled)
        assert others.texts(busy.thread_id) == [("user", "Hi"), ("assistant", "F")]

        # Taken over by the other.
        run = start_run(mine, taken_over)
        await until(second.held.is_set)
        one.kill()
        await finished(others, run)
        assert others.texts(run.thread_id) == [("user", "Hi"), ("assistant", "Again")]
        assert len(models.requests(taken_over)) == 2


async def test_streams_of_runs_that_the_other_executes(
    stacks: tuple[Stack, Stack], models: ModelServer
) -> None:
    one, _ = stacks
    hold = Hold(Answer("At last"))
    with (
        connect(one.grpc_address) as stubs,
        openai.OpenAI(base_url=one.base_url, api_key="none") as client,
    ):
        # It has its hands full.
        busy = start_run(stubs, models.script(hold))
        await until(hold.held.is_set)
        calls = models.script(Calls(("look", {"at": "it"})))
        asking = stubs.assistant(calls, tools=[function("look")])
        answering = stubs.assistant(models.script(Answer("Hello there")))

        def called() -> list[tuple[str, str]]:
            thread_id = stubs.thread("Hi").id
            with client.beta.threads.runs.stream(
                thread_id=thread_id, assistant_id=asking.id
            ) as stream:
                stream.until_done()
                run = stream.current_run
            assert run is not None
            assert run.required_action is not None
            tool_calls = run.required_action.submit_tool_outputs.tool_calls
            return [(call.function.name, call.function.arguments) for call in tool_calls]

        def answered() -> tuple[str, list[str]]:
            thread_id = stubs.thread("Hi").id
            with client.beta.threads.runs.stream(
                thread_id=thread_id, assistant_id=answering.id
            ) as stream:
                text = "".join(stream.text_deltas)
                return text, [message.status for message in stream.get_final_messages()]

        asked, answer = await asyncio.gather(asyncio.to_thread(called), asyncio.to_thread(answered))
        assert asked == [("look", '{"at": "it"}')]
        assert answer == ("Hello there", ["completed"])
        assert not hold.disconnected.is_set()
        hold.release()
        await finished(stubs, busy)


async def test_runs_that_nobody_holds_expire(
    postgres: Postgres, model_server: ModelServer, models: ModelServer
) -> None:
    name = postgres.create_database()
    env = {
        "ASSISTANTS_DATABASE_URL": postgres.url(name),
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
    }
    hold = Hold(Answer("At last"))
    # The one whose runs live long has its hands full; the other one's runs expire, there or here.
    with Stack(env) as one, Stack(env | {"ASSISTANTS_RUN_LIFETIME": "3"}) as other:
        with connect(one.start().grpc_address) as stubs:
            busy = start_run(stubs, models.script(hold))
            await until(hold.held.is_set)
            with connect(other.start().grpc_address) as others:
                calls = models.script(Calls(("look", {})))
                assistant = others.assistant(calls, tools=[function("look")])
                request = runs_pb2.CreateRunRequest(
                    thread_id=others.thread("Hi").id, assistant_id=assistant.id
                )
                pending = others.runs.CreateRun(request)
                await until(lambda: others.get_run(pending).status == Run.requires_action)
                blocker = Hold(Answer("Never"))
                blocked = [start_run(others, models.script(blocker))]
                await until(blocker.held.is_set)
                blocked.append(start_run(others, models.script()))
                for run in (pending, *blocked):
                    await until(lambda run=run: stubs.get_run(run).status == Run.expired)  # type: ignore[misc]
                await until(blocker.disconnected.is_set)
            hold.release()
            await finished(stubs, busy)
        for stack in (other, one):
            assert stack.terminate() == 0, stack.printed()
    postgres.drop_database(name)


async def finished(stubs: Stubs, run: Run) -> None:
    await until(lambda: stubs.get_run(run).status == Run.completed)
