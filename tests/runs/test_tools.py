"""Tools that the server executes: what the model gets, what streams show, what is stored."""

from typing import Any

import pytest

from service.runner.events import streams
from storage import Storage
from storage.tables import Run
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.grammar import allows
from tests.support.runs.own_tools import Python, Search, definition
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import AFTER_OUTPUTS, CALLING, COMPLETED, QUEUED, SPEAKING
from tests.support.storage.rows import PROJECT, get_run, set_run
from tests.support.types.samples import SEARCHED

PYTHON = {"type": "code_interpreter"}
SEARCH = {"type": "file_search", "file_search": {"max_num_results": 3}}
FUNCTION = {"type": "function", "function": {"name": "f", "strict": False}}
PAST = 1.0

CALLED = CALLING[:3]
EXECUTED = [*CALLED, "thread.run.step.completed"]
ANSWERED = [*SPEAKING, *COMPLETED]


def code(text: str) -> tuple[str, dict[str, str]]:
    return "python", {"code": text}


def asked(models: ModelServer, model: str) -> list[list[dict[str, Any]]]:
    """Returns the turns of each request after the user's message."""
    return [request["messages"][2:] for request in models.requests(model)]


def called(*calls: tuple[str, str]) -> dict[str, Any]:
    """Returns the model's own turn: names and arguments."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for index, (name, arguments) in enumerate(calls)
        ],
    }


def given(index: int, name: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{index}", "name": name, "content": content}


async def shown(engines: Engines, run: Run) -> list[list[Any]]:
    """Returns the types and details of the calls in each step that has some."""
    steps = [step.step_details for step in await engines.steps(run) if step.type == "tool_calls"]
    return [[(call["type"], call[call["type"]]) for call in each["tool_calls"]] for each in steps]


def logs(text: str) -> dict[str, Any]:
    return {"input": text, "outputs": [{"type": "logs", "logs": text}]}


async def check(storage: Storage, *streams: Following) -> None:
    for stream in streams:
        assert allows("whole", [event.event for event in stream.events])
        check_stream(stream.events, interrupted=False)
    await check_stored(storage, streams[0].run, [stream.events for stream in streams])


async def test_a_call_is_executed_and_the_model_goes_on(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    python = Python()
    model = models.script(Calls(code("image"), text="Let me see"), Answer("Done"))
    following = await engines.run(engines.start(python), model, tools=[PYTHON])
    assert await following.ended() == [
        *QUEUED,
        *SPEAKING,
        *CALLED,
        "thread.message.completed",
        "thread.run.step.completed",
        *ANSWERED,
    ]
    await check(storage, following)
    first, second = asked(models, model)
    assert models.requests(model)[0]["tools"] == [definition("python", "code")]
    arguments = '{"code": "image"}'
    assert first == []
    assert second == [
        called(("python", arguments)) | {"content": "Let me see"},
        given(0, "python", "It says: image"),
    ]
    [call] = python.calls
    assert (call.run.id, call.arguments, call.given) == (following.run.id, arguments, PYTHON)
    pieces = [piece for event in following.events for piece in event.run_step_delta.tool_calls]
    assert [piece.id for piece in pieces] == [call.id, "", "", "", ""]
    code_pieces = [piece.code_interpreter for piece in pieces]
    assert "".join(piece.input for piece in code_pieces) == "image"
    assert [
        (output.index, output.logs or output.image.file_id)
        for piece in code_pieces
        for output in piece.outputs
    ] == [(0, "i"), (0, "mage"), (1, "file-1")]
    image = {"type": "image", "image": {"file_id": "file-1"}}
    outputs = [{"type": "logs", "logs": "image"}, image]
    details = {"input": "image", "outputs": outputs}
    assert await shown(engines, following.run) == [[("code_interpreter", details)]]
    texts = [text for _, _, text in await engines.texts(following.run)]
    assert texts == ["Hi", "Let me see", "Done"]
    run = await get_run(storage, following.run)
    assert run.usage is not None
    assert run.usage["total_tokens"] == 50


async def test_several_turns_and_several_calls_in_one(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    python, search = Python(), Search()
    both = Calls(code("1"), ("search", {"query": "a"}))
    model = models.script(both, Calls(code("2")), Answer("Done"))
    engine = engines.start(python, search)
    following = await engines.run(engine, model, tools=[SEARCH, PYTHON])
    assert await following.ended() == [*QUEUED, *EXECUTED, *EXECUTED, *ANSWERED]
    await check(storage, following)
    assert await shown(engines, following.run) == [
        [("code_interpreter", logs("1")), ("file_search", SEARCHED)],
        [("code_interpreter", logs("2"))],
    ]
    assert search.calls[0].given == SEARCH
    first_turn = [
        called(("python", '{"code": "1"}'), ("search", '{"query": "a"}')),
        given(0, "python", "It says: 1"),
        given(1, "search", "Found."),
    ]
    second_turn = [called(("python", '{"code": "2"}')), given(0, "python", "It says: 2")]
    assert asked(models, model) == [[], first_turn, [*first_turn, *second_turn]]


async def test_with_functions_the_servers_are_executed_first(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    python = Python()
    mixed = Calls(("f", {"a": 1}), code("1"), ("f", {}))
    model = models.script(Calls(code("0")), mixed, Calls(code("2")), Answer("Done"))
    engine = engines.start(python)
    following = await engines.run(engine, model, tools=[PYTHON, FUNCTION])
    assert await following.ended() == [*QUEUED, *EXECUTED, *CALLING]
    assert len(python.calls) == 2
    found = await storage.runs.get(PROJECT, following.run.thread_id, following.run.id)
    awaited = following.events[-2].run.required_action.submit_tool_outputs.tool_calls
    assert [(call.function.name, call.function.arguments) for call in awaited] == [
        ("f", '{"a": 1}'),
        ("f", "{}"),
    ]
    assert found.pending is not None
    assert found.pending.step_details["tool_calls"][1]["code_interpreter"] == logs("1")
    outputs = [(call.id, text) for call, text in zip(awaited, "xy", strict=True)]
    run, first = await engines.submit(engine, following.run, *outputs)
    after = Following(run, engine.streams.follow(run, first))
    assert await after.ended() == [*AFTER_OUTPUTS[:3], *EXECUTED, *ANSWERED]
    await check(storage, following, after)
    assert len(python.calls) == 3
    turns = asked(models, model)[2]
    assert turns[2:] == [
        called(("f", '{"a": 1}'), ("python", '{"code": "1"}'), ("f", "{}")),
        given(0, "f", "x"),
        given(1, "python", "It says: 1"),
        given(2, "f", "y"),
    ]


@pytest.mark.parametrize(
    ("arguments", "given_back", "details"),
    [
        ({"code": "fail"}, "The code has failed.", logs("fail")),
        ({"code": "break"}, "The tool failed.", logs("break")),
        ("no JSON", "No code was given.", {"input": "", "outputs": []}),
        ({"code": "a\0b"}, "It says: a\ufffdb", logs("a\ufffdb")),
    ],
)
async def test_a_model_gets_a_failure_as_output_and_goes_on(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    arguments: Any,
    given_back: str,
    details: dict[str, Any],
) -> None:
    model = models.script(Calls(("python", arguments)), Answer("Done"))
    following = await engines.run(engines.start(Python()), model, tools=[PYTHON])
    assert await following.ended() == [*QUEUED, *EXECUTED, *ANSWERED]
    await check(storage, following)
    assert asked(models, model)[1][1] == given(0, "python", given_back)
    assert await shown(engines, following.run) == [[("code_interpreter", details)]]


async def test_cancelling_breaks_a_tool_off(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start(python := Python())
    model = models.script(Calls(code("hang"), code("never"), text="Wait"))
    following = await engines.run(engine, model, tools=[PYTHON])
    await python.hanging.wait()
    run = following.run
    await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    assert await following.ended() == [
        *QUEUED,
        *SPEAKING,
        *CALLED,
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    await check(storage, following)
    assert (python.left, len(python.calls)) == (1, 1)
    [[(_, first), (_, second)]] = await shown(engines, run)
    assert first == {"input": "hang", "outputs": [{"type": "logs", "logs": "h"}]}
    assert second == {"input": "", "outputs": []}
    # The model's answer was whole, and is counted.
    now = await get_run(storage, run)
    assert now.usage is not None
    assert now.usage["total_tokens"] == 25


async def test_expiry_breaks_a_tool_off(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start(python := Python())
    model = models.script(Calls(code("hang")))
    following = await engines.run(engine, model, tools=[PYTHON], lifetime=1)
    ended = ["thread.run.step.expired", "thread.run.expired", "done"]
    assert await following.ended() == [*QUEUED, *CALLED, *ended]
    await check(storage, following)
    assert (python.left, (await get_run(storage, following.run)).status) == (1, "expired")


async def test_a_call_whose_attempt_dies_is_executed_again(
    storage: Storage,
    engines: Engines,
    models: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the turns before have stored is not."""
    monkeypatch.setattr(streams, "SILENCE", 0.05)
    stuck, python = Python(), Python()
    model = models.script(Calls(code("1")), Calls(code("hang")), Calls(code("2")), Answer("Done"))
    first = engines.start(stuck)
    following = await engines.run(first, model, tools=[PYTHON])
    await stuck.hanging.wait()
    await first.settled(following.run.id)
    await set_run(storage, following.run, lease_until=PAST)
    engines.start(python)
    assert await following.ended() == [
        *QUEUED,
        *EXECUTED,
        *CALLED,
        "thread.run.step.failed",
        *EXECUTED,
        *ANSWERED,
    ]
    stuck.go_on.set()
    await engines.drain(first, 60)
    assert [call.arguments for call in stuck.calls] == ['{"code": "1"}', '{"code": "hang"}']
    assert [call.arguments for call in python.calls] == ['{"code": "2"}']
    assert await shown(engines, following.run) == [
        [("code_interpreter", logs("1"))],
        [("code_interpreter", logs("2"))],
    ]
    done_before = [called(("python", '{"code": "1"}')), given(0, "python", "It says: 1")]
    assert asked(models, model)[1:3] == [done_before, done_before]
    assert (await get_run(storage, following.run)).attempt == 2


async def test_a_server_that_stops_gives_the_run_back(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    first = engines.start(stuck := Python())
    model = models.script(Calls(code("1")), Calls(code("hang")), Answer("Done"))
    following = await engines.run(first, model, tools=[PYTHON])
    await stuck.hanging.wait()
    await engines.drain(first, 0)
    assert stuck.left == 2
    [step] = await engines.steps(following.run)
    assert step.status == "completed"
    run, second = following.run, engines.start(Python())
    rest = Following(run, second.streams.follow(await get_run(storage, run), 1))
    await rest.ended()
    assert (await get_run(storage, run)).status == "completed"


async def test_a_model_that_never_ends_is_ended(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    engine = engines.start(python := Python())
    model = models.script(*(Calls(code(str(number))) for number in range(5)))
    following = await engines.run(engine, model, tools=[PYTHON])
    ended = [*CALLED, "thread.run.step.failed", "thread.run.failed", "done"]
    assert await following.ended() == [*QUEUED, *EXECUTED * 3, *ended]
    await check(storage, following)
    assert len(python.calls) == 3
    run = await get_run(storage, following.run)
    message = "The model called tools of the server in 3 turns, and did not come to an end."
    assert run.last_error == {"code": "server_error", "message": message}


async def test_a_tool_that_this_server_has_not(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    model = models.script()
    following = await engines.run(engines.start(Search()), model, tools=[SEARCH, PYTHON])
    assert await following.ended() == [*QUEUED, "thread.run.failed", "done"]
    run = await get_run(storage, following.run)
    message = "Tool 'code_interpreter' is not available on this server."
    assert run.last_error == {"code": "server_error", "message": message}
    assert models.requests(model) == []


async def test_a_tool_may_be_chosen_and_gives_way_to_a_function_of_its_name(
    engines: Engines, models: ModelServer
) -> None:
    own = {"type": "function", "function": {"name": "python", "strict": False}}
    engine = engines.start(python := Python())
    model = models.script(Calls(("python_", {"code": "1"})), Calls(("python", {})))
    following = await engines.run(engine, model, tools=[PYTHON, own], tool_choice=PYTHON)
    assert await following.ended() == [*QUEUED, *EXECUTED, *CALLING]
    first, second = models.requests(model)
    assert first["tools"] == [definition("python_", "code"), own]
    assert first["tool_choice"] == {"type": "function", "function": {"name": "python_"}}
    assert "tool_choice" not in second
    assert len(python.calls) == 1


async def test_an_answer_that_is_cut_off_is_not_executed(
    engines: Engines, models: ModelServer
) -> None:
    engine = engines.start(python := Python())
    model = models.script(Calls(code("1"), finish_reason="length"))
    following = await engines.run(engine, model, tools=[PYTHON])
    ended = ["thread.run.step.completed", "thread.run.incomplete", "done"]
    assert await following.ended() == [*QUEUED, *CALLED, *ended]
    assert python.calls == []


async def test_a_defect_of_the_model_in_a_later_turn_ends_only_that_turn(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    held = Hold(Answer("Done"), after="Do")
    model = models.script(Calls(code("1")), held)
    engine = engines.start(Python())
    following = await engines.run(engine, model, tools=[PYTHON])
    await following.received("Do")
    run = following.run
    await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    await following.ended()
    await check(storage, following)
    statuses = [step.status for step in await engines.steps(run)]
    assert statuses == ["completed", "cancelled"]
