"""Attempts that lose their claim, their run, or what they write to."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from types import AsyncGeneratorType

import pytest

from service.runner.events import streams as streams_module
from storage import Storage
from tests.support import marked
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import CALLING, COMPLETED, QUEUED, SPEAKING
from tests.support.storage.rows import PROJECT, get_run, set_run
from tests.support.waiting import until

PAST = 1.0
BEGUN = [*QUEUED, *SPEAKING]


@pytest.fixture
def held() -> Hold:
    return Hold(Answer("Hello there"), after="Hello")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers look into the database soon."""
    monkeypatch.setattr(streams_module, "SILENCE", 0.05)


async def test_another_server_takes_over(
    engines: Engines, models: ModelServer, held: Hold, impatient: None
) -> None:
    first = engines.start()
    lost = await engines.run(first, models.script(held, Answer("Again")))
    await lost.received("Hello")
    await set_run(engines.storage, lost.run, lease_until=PAST)
    engines.start()
    withdrawn = ["thread.message.incomplete", "thread.run.step.failed"]
    assert await lost.ended() == [*BEGUN, *withdrawn, *SPEAKING, *COMPLETED]
    before = await engines.steps(lost.run), await get_run(engines.storage, lost.run)
    held.release()
    await engines.drain(first, 60)
    assert await engines.texts(lost.run) == [
        ("user", "completed", "Hi"),
        ("assistant", "completed", "Again"),
    ]
    assert before == (await engines.steps(lost.run), await get_run(engines.storage, lost.run))
    assert before[1].attempt == 2


async def test_a_server_takes_over_from_itself(
    engines: Engines, models: ModelServer, held: Hold
) -> None:
    again = Hold(Answer("Once again"), after="Once")
    following = await engines.run(engines.start(), models.script(held, again))
    await following.received("Hello")
    await set_run(engines.storage, following.run, lease_until=PAST)
    await following.received("HelloOnce")
    # The first attempt would still send deltas: it is stopped at once.
    await until(held.disconnected.is_set)
    again.release()
    assert await following.ended() == [
        *BEGUN,
        "thread.message.incomplete",
        "thread.run.step.failed",
        *BEGUN[2:],
        *COMPLETED,
    ]
    ids = {event.message.id for event in following.events if event.HasField("message")}
    assert len(ids) == 2
    assert [text for _, _, text in await engines.texts(following.run)] == ["Hi", "Once again"]
    assert len(await engines.steps(following.run)) == 1


async def test_a_cancel_in_the_very_last_moment(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello"), after="Hello")
    following = await engines.run(engines.start(), models.script(held))
    await following.received("Hello")
    # Nothing is published to the attempt, which finds out when it wants to complete the run.
    await storage.runs.cancel(PROJECT, following.run.thread_id, following.run.id)
    held.release()
    assert await following.ended() == [
        *BEGUN,
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    assert (await engines.texts(following.run))[1:] == [("assistant", "incomplete", "Hello")]
    [step] = await engines.steps(following.run)
    assert (step.status, step.cancelled_at is None) == ("cancelled", False)


async def test_a_cancel_before_the_model_calls(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Calls(("f", {})))
    tools = [{"type": "function", "function": {"name": "f", "strict": False}}]
    following = await engines.run(engines.start(), models.script(held), tools=tools)
    await until(held.held.is_set)
    await storage.runs.cancel(PROJECT, following.run.thread_id, following.run.id)
    held.release()
    ended = ["thread.run.step.cancelled", "thread.run.cancelled", "done"]
    assert await following.ended() == [*QUEUED, *CALLING[:3], *ended]
    [step] = await engines.steps(following.run)
    assert (step.status, step.type, step.cancelled_at is None) == ("cancelled", "tool_calls", False)


async def test_what_is_to_be_replayed_stands_where_the_usage_does(
    engines: Engines, models: ModelServer
) -> None:
    engine = engines.start()
    ended = await engines.run(engine, models.script(marked.answer()))
    paused = await engines.run(engine, models.script(marked.calls()))
    plain = await engines.run(engine, models.script(Answer("Hello")))
    for each in (ended, paused, plain):
        await each.ended()
    [answered] = await engines.steps(ended.run)
    assert answered.usage is not None
    assert answered.replay is not None
    assert answered.replay["turn"].keys() == {"reasoning", "reasoning_content"}
    spoken, called = await engines.steps(paused.run)
    assert (spoken.usage, spoken.replay, called.usage is None) == (None, None, False)
    assert called.replay is not None
    assert [call["id"] for call in called.replay["calls"]] == ["Mk9zQA001", "Mk9zQB002"]
    assert marked.MARK not in str((spoken.step_details, called.step_details))
    assert [step.replay for step in await engines.steps(plain.run)] == [None]


@pytest.mark.parametrize("lease_seconds", [0.1, 3600.0])
async def test_a_thread_that_is_deleted_elsewhere(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    held: Hold,
    impatient: None,
    lease_seconds: float,
) -> None:
    """The renewal of the lease notices, or at last the write."""
    engine = engines.start(lease_seconds=lease_seconds)
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    await storage.threads.delete(PROJECT, following.run.thread_id)
    assert await following.ended() == [*BEGUN, "error"]
    assert following.events[-1].error.message == "The run was deleted."
    if lease_seconds < 1:
        await until(held.disconnected.is_set)
    held.release()
    await engines.drain(engine, 60)


async def test_a_message_that_is_deleted_while_it_is_written(
    storage: Storage, engines: Engines, models: ModelServer, held: Hold
) -> None:
    following = await engines.run(engines.start(), models.script(held))
    await following.received("Hello")
    message = next(event.message for event in following.events if event.HasField("message"))
    await storage.messages.delete(PROJECT, following.run.thread_id, message.id)
    held.release()
    assert await following.ended() == [*BEGUN, *COMPLETED[1:]]
    assert await engines.texts(following.run) == [("user", "completed", "Hi")]


async def test_a_write_that_the_database_refuses_fails_the_run(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello"))
    following = await engines.run(engines.start(), models.script(held))
    await until(held.held.is_set)
    await engines.rename("messages", "hidden")
    held.release()
    await following.ended()
    await engines.rename("hidden", "messages")
    run = await get_run(storage, following.run)
    assert (run.status, (run.last_error or {}).get("code")) == ("failed", "server_error")
    assert "hidden" not in str(run.last_error)
    assert following.names[-2:] == ["thread.run.failed", "done"]


async def test_an_attempt_that_breaks_down_fails_its_run_at_once(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """Repeated, it would break down again, and hold a worker until the run expires."""
    held = Hold(Answer("Hello"), after="Hello")
    model = models.script(held)
    following = await engines.run(engines.start(), model)
    await following.received("Hello")
    # From now on the thread takes no answer: it has one message of each status.
    await engines.execute("CREATE UNIQUE INDEX poison ON messages (thread_id, status)")
    held.release()
    assert await following.ended() == [
        *BEGUN,
        "thread.message.incomplete",
        "thread.run.step.failed",
        "thread.run.failed",
        "done",
    ]
    run = await get_run(storage, following.run)
    assert (run.status, run.attempt, run.lease_until) == ("failed", 1, None)
    assert run.last_error is not None
    assert run.last_error["code"] == "server_error"
    assert "poison" not in run.last_error["message"]
    assert await engines.texts(run) == [("user", "completed", "Hi")]
    assert await engines.steps(run) == []
    assert len(models.requests(model)) == 1


async def test_a_defect_while_it_is_cancelled_ends_the_run_at_once(
    storage: Storage, engines: Engines, models: ModelServer, held: Hold
) -> None:
    engine = engines.start()
    following = await engines.run(engine, models.script(held))
    await following.received("Hello")
    # No answer can be ended, in whatever way.
    await engines.execute(
        "CREATE UNIQUE INDEX poison ON messages (thread_id) WHERE status <> 'in_progress'"
    )
    await engine.announce(
        await storage.runs.cancel(PROJECT, following.run.thread_id, following.run.id)
    )
    assert await following.ended() == [
        *BEGUN,
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.failed",
        "thread.run.cancelled",
        "done",
    ]
    run = await get_run(storage, following.run)
    assert (run.status, run.last_error, run.attempt) == ("cancelled", None, 1)
    assert await engines.steps(run) == []


async def test_no_request_to_the_model_is_left_to_the_garbage_collector(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    collected: list[str] = []
    collect = sys.get_asyncgen_hooks().finalizer
    assert collect is not None

    def note(generator: AsyncGenerator[object, object]) -> None:
        assert isinstance(generator, AsyncGeneratorType)
        collected.append(generator.ag_code.co_filename)
        collect(generator)

    # The event loop sets its own again when the test is over.
    sys.set_asyncgen_hooks(finalizer=note)
    held = Hold(Answer("Hello"))
    following = await engines.run(engines.start(), models.script(held))
    await until(held.held.is_set)
    # Nothing is published to the attempt: it learns of it as it begins to write.
    await storage.runs.cancel(PROJECT, following.run.thread_id, following.run.id)
    held.release()
    assert (await following.ended())[-2:] == ["thread.run.cancelled", "done"]
    # The openai package closes the connection, and leaves generators of its own behind.
    assert [each for each in collected if "/service/" in each] == []


async def test_a_run_whose_end_cannot_be_written_is_taken_up_again(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello"), after="Hello")
    engine = engines.start()
    following = await engines.run(engine, models.script(held, Answer("Again")))
    await following.received("Hello")
    await engines.rename("run_steps", "hidden")
    held.release()
    await engines.drain(engine, 60)
    await engines.rename("hidden", "run_steps")
    assert await following.ended() == [*BEGUN, "error"]
    assert (await get_run(storage, following.run)).status == "in_progress"
    await set_run(storage, following.run, lease_until=PAST)
    engines.start()
    while (await get_run(storage, following.run)).status != "completed":
        await asyncio.sleep(0.02)
    assert [text for _, _, text in await engines.texts(following.run)] == ["Hi", "Again"]
