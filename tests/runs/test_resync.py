"""Followers on one server of what another one does: published from the rows, each thing once."""

import pytest

from service.runner import reconciler as reconciler_module
from service.runner.engine import Engine
from service.runner.events import streams as streams_module
from storage import Storage
from storage.tables import Run, RunStatus
from tests.runs.test_attempts import BEGUN, PAST
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.own_tools import Python, Search
from tests.support.runs.reading import whole
from tests.support.runs.schedule import TOOLS
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.script import Answer, BreakOff, Calls, Hold, Refusal, Step
from tests.support.sequences import CALLING, COMPLETED, QUEUED, RESUMED, SPEAKING
from tests.support.storage.rows import (
    PROJECT,
    claimed,
    get_run,
    make_run,
    make_thread,
    set_run,
    start_message,
)
from tests.support.waiting import until

CREATED = QUEUED[:2]
WITHDRAWN = ["thread.message.incomplete", "thread.run.step.failed"]
ANSWER = [*SPEAKING, *COMPLETED]


@pytest.fixture(autouse=True)
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers ask soon, and what one server leaves another takes up soon."""
    monkeypatch.setattr(streams_module, "SILENCE", 0.1)
    monkeypatch.setattr(reconciler_module, "PERIOD", 0.05)
    monkeypatch.setattr(reconciler_module, "QUEUED_FOR", 0.0)


async def start_busy(engines: Engines, models: ModelServer) -> Engine:
    """Starts an engine that has its hands full."""
    engine, held = engines.start(concurrency=1), Hold(Answer("Never"))
    # In the end it may let go of it first: then the other asks as well.
    await engines.run(engine, models.script(held, Hold(Answer("Never"))))
    await until(held.held.is_set)
    return engine


def text(following: Following) -> str:
    """All that the deltas say."""
    parts = [part for event in following.events for part in event.message_delta.content]
    return "".join(part.text.value or part.refusal for part in parts)


async def submit(storage: Storage, engine: Engine, run: Run) -> Following:
    """Answers all calls, and follows what comes of it."""
    found = await storage.runs.get(PROJECT, run.thread_id, run.id)
    assert found.pending is not None
    outputs = [(call["id"], "42") for call in found.pending.step_details["tool_calls"]]
    queued, first = await engine.resume(
        lambda claim: storage.runs.submit_tool_outputs(
            PROJECT, run.thread_id, run.id, outputs, claim=claim
        )
    )
    return Following(queued, engine.streams.follow(queued, first))


async def test_an_answer(storage: Storage, engines: Engines, models: ModelServer) -> None:
    mine = await start_busy(engines, models)
    following = await engines.run(mine, models.script(Answer("Hello there")))
    twin = Following(following.run, mine.streams.follow(following.run, 1))
    engines.start()
    assert await following.ended() == [*CREATED, *ANSWER]
    await twin.ended()
    assert twin.events == following.events
    assert text(following) == "Hello there"
    check_stream(following.events, interrupted=False)
    await check_stored(storage, following.run, [following.events])
    # Who lost the connection gets the rest, with the same numbers.
    run = await get_run(storage, following.run)
    rest = await whole(await mine.streams.replay(run, 4))
    assert rest == following.events[4:]


async def test_tools_that_the_server_executes(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    mine = await start_busy(engines, models)
    calls = Calls(("python", {"code": "image"}), ("search", {}), text="Let me see")
    tools = [{"type": "code_interpreter"}, {"type": "file_search"}]
    following = await engines.run(mine, models.script(calls, Answer("Done")), tools=tools)
    engines.start(Python(), Search())
    executed = [*CALLING[:3], "thread.run.step.completed"]
    spoken = [*ANSWER[:-2], *executed]
    assert await following.ended() == [*CREATED, *spoken, *ANSWER]
    check_stream(following.events, interrupted=False)
    await check_stored(storage, following.run, [following.events])
    pieces = [call for each in following.events for call in each.run_step_delta.tool_calls]
    outputs = [output for each in pieces for output in each.code_interpreter.outputs]
    assert "".join(each.code_interpreter.input for each in pieces) == "image"
    assert [(each.index, each.logs) for each in outputs] == [(0, "image"), (1, "")]
    assert [each.WhichOneof("tool") for each in pieces if each.id] == [
        "code_interpreter",
        "file_search",
    ]


@pytest.mark.parametrize(
    ("step", "end", "expected_text"),
    [
        (Answer(""), COMPLETED, ""),
        (Refusal("No, thanks"), COMPLETED, "No, thanks"),
        (BreakOff("Hel"), [*WITHDRAWN, "thread.run.failed", "done"], "Hel"),
    ],
)
async def test_other_ends(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    step: Step,
    end: list[str],
    expected_text: str,
) -> None:
    mine = await start_busy(engines, models)
    following = await engines.run(mine, models.script(step))
    engines.start()
    assert await following.ended() == [*CREATED, *SPEAKING, *end]
    assert text(following) == expected_text
    check_stream(following.events, interrupted=False)
    await check_stored(storage, following.run, [following.events])


async def test_calls_and_what_follows_their_outputs(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    mine = await start_busy(engines, models)
    calls = Calls(("f", {"a": 1}), ("f", ""), text="Let me see")
    model = models.script(calls, Calls(("f", {"b": 2})), Answer("Done"))
    first = await engines.run(mine, model, tools=TOOLS[:1])
    engines.start()
    assert await first.ended() == [*CREATED, *ANSWER[:-2], *CALLING]
    action = first.events[-2].run.required_action.submit_tool_outputs
    assert [call.function.arguments for call in action.tool_calls] == ['{"a": 1}', "{}"]
    pieces = [call for each in first.events for call in each.run_step_delta.tool_calls]
    shown = [(each.index, each.id, each.function.name, each.function.arguments) for each in pieces]
    assert shown == [
        (0, action.tool_calls[0].id, "f", ""),
        (0, "", "", '{"a": 1}'),
        (1, action.tool_calls[1].id, "f", ""),
        (1, "", "", "{}"),
    ]
    second = await submit(storage, mine, first.run)
    assert await second.ended() == [*RESUMED[:2], *CALLING]
    third = await submit(storage, mine, first.run)
    assert await third.ended() == [*RESUMED[:2], *ANSWER]
    streams = [following.events for following in (first, second, third)]
    numbers = [event.sequence_number for events in streams for event in events]
    assert numbers == sorted(set(numbers))
    for events in streams:
        check_stream(events, interrupted=False)
    await check_stored(storage, first.run, streams)


async def test_a_pause_is_published_once(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    mine = await start_busy(engines, models)
    first = await engines.run(mine, models.script(Calls(("f", {}))), tools=TOOLS[:1])
    engines.start()
    assert (await first.ended())[-2:] == ["thread.run.requires_action", "done"]
    run = await get_run(storage, first.run)
    again = Following(run, await mine.streams.replay(run, first.events[-1].sequence_number))
    # A run whose end is published later: by then the other has asked, too.
    other = await engines.run(mine, models.script(Answer("Hello")))
    await other.ended()
    assert again.events == []
    await storage.runs.cancel(PROJECT, run.thread_id, run.id)
    assert await again.ended() == ["thread.run.step.cancelled", "thread.run.cancelled", "done"]
    await check_stored(storage, run, [again.events])


async def test_what_was_received_in_part_is_withdrawn(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    mine = engines.start(concurrency=1)
    model = models.script(held, Answer("Hello again"))
    following = await engines.run(mine, model)
    await following.received("Hello")
    run = following.run
    # The one that lost it waits for its model: it is the other that takes it up again.
    engines.start()
    await set_run(storage, run, lease_until=PAST)
    names = await following.ended()
    assert names == [*BEGUN, *WITHDRAWN, *ANSWER]
    check_stream(following.events, interrupted=False)
    await check_stored(storage, run, [following.events])
    assert text(following) == "HelloHello again"


async def test_what_was_received_in_part_ends_with_its_run(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    following = await engines.run(engines.start(), models.script(held))
    await following.received("Hello")
    await set_run(storage, following.run, lease_until=PAST, expires_at=PAST)
    await storage.stale_runs.end(following.run.id, RunStatus.expired)
    end = ["thread.message.incomplete", "thread.run.step.expired", "thread.run.expired", "done"]
    assert await following.ended() == [*BEGUN, *end]
    [message] = [each.message for each in following.events if each.event == end[0]]
    assert [part.text.value for part in message.content] == ["Hello"]
    check_stream(following.events, interrupted=False)
    await check_stored(storage, following.run, [following.events])


async def test_a_stream_without_its_beginning_says_where_the_rest_is(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    model = models.script(held, Answer("Again"))
    run = await make_run(storage, await make_thread(storage, "Hi"), model=model)
    # Another server had begun it, of which this one knows nothing.
    await start_message(storage, await claimed(storage, run))
    await set_run(storage, run, lease_until=PAST)
    mine = engines.start(concurrency=1)
    first = Following(run, mine.streams.follow(run, 1), mine)
    await first.received("Hello")
    await first.leave()
    after = first.events[-1].sequence_number
    resumed = Following(run, await mine.streams.replay(await get_run(storage, run), after))
    engines.start()
    await set_run(storage, run, lease_until=PAST)
    assert await resumed.ended() == ["error"]
    [error] = resumed.events
    assert error.error.message == f"Another server executed run {run.id}: read it instead."
    assert error.sequence_number == after + 1
