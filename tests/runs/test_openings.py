"""What streams show before it is stored: whoever asks for it waits until it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from assistants.v1 import messages_pb2, runs_pb2, threads_pb2
from sqlmodel import col

from service.api.messages import MessagesServicer
from service.api.runs import RunsServicer
from service.api.threads import ThreadsServicer
from service.runner import reconciler as reconciler_module
from service.runner.engine import Engine
from storage import Storage
from storage.errors import NotFound
from storage.openings import open_message
from storage.pages import PageRequest
from storage.resources import NOTHING
from storage.rows import RunStep
from storage.tables import Thread
from tests.runs.test_attempts import BEGUN, PAST
from tests.support.model_server import ModelServer
from tests.support.runs.engines import CALLER, Engines, Following
from tests.support.script import Answer, Hold
from tests.support.sequences import COMPLETED, PLAIN
from tests.support.storage.rows import (
    PROJECT,
    assistant_values,
    claimed,
    execute,
    get_run,
    holding,
    make_run,
    make_thread,
    new_run,
    set_run,
    start_message,
    user,
)
from tests.support.waiting import SECONDS, until

WITHDRAWN = ["thread.message.incomplete", "thread.run.step.failed"]


class Callers:
    """What callers can ask for once a stream has shown a message and its step."""

    def __init__(self, storage: Storage, engine: Engine, following: Following) -> None:
        self._messages = MessagesServicer(storage, engine, "reject")
        self._runs = RunsServicer(storage, engine, 600, "reject")
        self._threads = ThreadsServicer(storage, engine)
        shown = following.events
        run = following.run
        self.message = next(event.message for event in shown if event.HasField("message"))
        self.step = next(event.run_step for event in shown if event.HasField("run_step"))
        self._message: dict[str, Any] = {"thread_id": run.thread_id, "message_id": self.message.id}
        self._run: dict[str, Any] = {"thread_id": run.thread_id, "run_id": run.id}

    async def get(self) -> str:
        """Reads the message."""
        request = messages_pb2.GetMessageRequest(**self._message)
        return (await self._messages.GetMessage(request, CALLER)).id

    async def modify(self) -> str:
        """Changes the message's metadata."""
        request = messages_pb2.ModifyMessageRequest(**self._message, metadata={"a": "1"})
        return (await self._messages.ModifyMessage(request, CALLER)).id

    async def delete(self) -> str:
        """Deletes the message."""
        request = messages_pb2.DeleteMessageRequest(**self._message)
        return (await self._messages.DeleteMessage(request, CALLER)).id

    async def list(self) -> str:
        """Reads the run's messages."""
        request = messages_pb2.ListMessagesRequest(**self._run)
        [found] = (await self._messages.ListMessages(request, CALLER)).data
        return found.id

    async def get_step(self) -> str:
        """Reads the step."""
        request = runs_pb2.GetRunStepRequest(**self._run, step_id=self.step.id)
        step = await self._runs.GetRunStep(request, CALLER)
        assert isinstance(step, RunStep)
        return written_by(step)

    async def list_steps(self) -> str:
        """Reads the run's steps."""
        found = await self._runs.ListRunSteps(runs_pb2.ListRunStepsRequest(**self._run), CALLER)
        [step] = found.data
        assert isinstance(step, RunStep)
        return written_by(step)

    async def copy(self) -> str:
        """Branches the thread at the message."""
        request = threads_pb2.CopyThreadRequest(
            thread_id=self._run["thread_id"], up_to_message_id=self.message.id
        )
        assert (await self._threads.CopyThread(request, CALLER)).id != request.thread_id
        return self.message.id


def written_by(step: RunStep) -> str:
    """The message that a step writes."""
    return str(step.step_details["message_creation"]["message_id"])


Call = Callable[[Callers], Awaitable[str]]


@pytest.mark.parametrize(
    "call",
    [
        Callers.get,
        Callers.modify,
        Callers.delete,
        Callers.list,
        Callers.get_step,
        Callers.list_steps,
        Callers.copy,
    ],
)
async def test_what_was_shown_is_there(
    storage: Storage, engines: Engines, models: ModelServer, call: Call
) -> None:
    engine = engines.start()
    hold = Hold(Answer("Hello there"))
    following = await start(engines, engine, models.script(hold))
    await until(hold.held.is_set)
    async with holding(storage, following.run.thread_id, PROJECT):
        hold.release()
        # Nothing of it can be written.
        await following.shown("Hello there")
        callers = Callers(storage, engine, following)
        with pytest.raises(NotFound):
            await storage.messages.get(PROJECT, following.run.thread_id, callers.message.id)
        calling = asyncio.ensure_future(call(callers))
        await asyncio.sleep(0)
    assert await calling == callers.message.id
    assert set(await following.ended()) >= {*PLAIN[:-4], "thread.run.completed"}


async def test_what_could_not_be_stored_at_once_is_stored_later(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """Long before the end: whoever asks for it does not wait for that."""
    engine = engines.start()
    hold = Hold(Answer("Hello there"), after="Hello")
    assistant = await storage.assistants.create(PROJECT, assistant_values())
    new = new_run(model=models.script(hold), assistant_id=assistant.id)
    await engines.rename("run_steps", "hidden")
    run, first = await engine.start(
        lambda claim: storage.runs.create_with_thread(
            PROJECT, {}, NOTHING, [user("Hi")], new, claim=claim
        )
    )
    following = Following(run, engine.streams.follow(run, first + 1))
    await following.shown("Hello")
    await engines.rename("hidden", "run_steps")
    message = next(event.message for event in following.events if event.HasField("message"))
    async with asyncio.timeout(SECONDS):
        await engine.settled(message.id)
    found = await storage.messages.get(following.run.project_id, message.thread_id, message.id)
    assert (found.status, found.created_at) == ("in_progress", message.created_at)
    hold.release()
    assert await following.ended() == PLAIN


async def test_what_was_shown_and_never_stored_is_withdrawn(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt breaks down, and its server takes the run up again."""
    monkeypatch.setattr(reconciler_module, "PERIOD", 0.05)
    following = await broken_down(engines, models, Answer("Again"))
    await set_run(storage, following.run, lease_until=PAST)
    assert await following.ended() == [*BEGUN, *WITHDRAWN, *BEGUN[2:], *COMPLETED]
    assert [text for _, _, text in await engines.texts(following.run)] == ["Hi", "Again"]
    ended = [event for event in following.events if event.event in WITHDRAWN]
    first = following.events[3].run_step.id
    assert (ended[1].run_step.id, ended[0].message.content[0].text.value) == (first, "Hello")
    assert first not in [step.id for step in await engines.steps(following.run)]


async def test_what_was_never_stored_is_withdrawn_from_a_run_that_expires(
    storage: Storage, engines: Engines, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler_module, "PERIOD", 0.05)
    following = await broken_down(engines, models)
    await set_run(storage, following.run, lease_until=PAST, expires_at=PAST)
    assert await following.ended() == [*BEGUN, *WITHDRAWN, "thread.run.expired", "done"]


async def test_what_was_never_stored_is_withdrawn_with_its_thread(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    following = await broken_down(engines, models)
    run = following.run
    [ended] = await storage.threads.delete(run.project_id, run.thread_id)
    await engines.one.announce(ended)
    assert await following.ended() == [*BEGUN, *WITHDRAWN, "thread.run.cancelled", "done"]


async def test_a_position_that_was_given_meanwhile_stays_the_last(storage: Storage) -> None:
    thread = await make_thread(storage, "Hi")
    claim = await claimed(storage, await make_run(storage, thread))
    opening = open_message(claim.run, 1, after=claim.last_position)
    project = claim.run.project_id
    later = await storage.messages.create(project, thread.id, user("And"), queue=True)
    await storage.claims.open(claim, opening)
    assert opening.message is not None
    assert claim.last_position < opening.step.position < opening.last_position < later.position
    assert (await storage.threads.get(project, thread.id)).last_position == later.position
    page = PageRequest(order="asc")
    listed = await storage.messages.list(project, thread.id, page)
    assert [each.id for each in listed.data][1:] == [opening.message.id, later.id]


async def test_it_stands_behind_all_that_a_faster_clock_has_given(storage: Storage) -> None:
    thread = await make_thread(storage, "Hi")
    run = await make_run(storage, thread)
    ahead = f"7{thread.id.rpartition('_')[2][1:]}"
    mine = sa.update(Thread).where(col(Thread.id) == thread.id)
    await execute(storage, mine.values(last_position=ahead))
    claim = await claimed(storage, run)
    step, message = await start_message(storage, claim)
    assert ahead < step.position < message.position
    now = await storage.threads.get(run.project_id, thread.id)
    assert now.last_position == message.position


async def start(engines: Engines, engine: Engine, model: str) -> Following:
    """Starts a run as the servicers do, in their project."""
    storage = engines.storage
    thread = await storage.threads.create(PROJECT, {}, NOTHING, [user("Hi")])
    assistant = await storage.assistants.create(PROJECT, assistant_values())
    new = new_run(model=model, assistant_id=assistant.id)
    run, first = await engine.start(
        lambda claim: storage.runs.create(PROJECT, thread.id, new, [], claim=claim)
    )
    return Following(run, engine.streams.follow(run, first), engine)


async def broken_down(engines: Engines, models: ModelServer, *again: Answer) -> Following:
    """Returns a run whose attempt could write nothing of what it has shown."""
    hold = Hold(Answer("Hello"))
    following = await engines.run(engines.start(), models.script(hold, *again))
    await until(hold.held.is_set)
    await engines.rename("run_steps", "hidden")
    hold.release()
    await following.shown("Hello")
    message = next(event.message for event in following.events if event.HasField("message"))
    # Until the attempt is over.
    await engines.one.settled(message.id)
    await engines.rename("hidden", "run_steps")
    assert (await get_run(engines.storage, following.run)).status == "in_progress"
    return following
