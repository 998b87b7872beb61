"""What the results of tools become in messages: citations, images, links, attachments."""

import asyncio
from typing import Any

import pytest

from service.types.tool_calls import CODE_INTERPRETER
from storage import Storage
from storage.pages import PageRequest
from storage.tables import Message, Run
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.own_tools import Python, Search
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.script import Answer, Calls, Hold, Step
from tests.support.storage.rows import PROJECT, get_run, set_run

PYTHON = {"type": "code_interpreter"}
SEARCH = {"type": "file_search"}
FUNCTION = {"type": "function", "function": {"name": "f", "strict": False}}
ASK = Calls(("search", {"query": "a"}))
PAST = 1.0


def code(text: str) -> tuple[str, dict[str, str]]:
    return "python", {"code": text}


async def whole(
    storage: Storage, engines: Engines, models: ModelServer, *steps: Step, **changes: Any
) -> tuple[Following, list[Message]]:
    """Returns a run that has ended, and the messages that it has written, oldest first."""
    model = models.script(*steps)
    changes = {"tools": [SEARCH, PYTHON]} | changes
    following = await engines.run(engines.start(Search(), Python()), model, **changes)
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]
    check_stream(following.events, interrupted=False)
    await check_stored(storage, following.run, [following.events])
    return following, await written(storage, following.run)


async def written(storage: Storage, run: Run) -> list[Message]:
    page = PageRequest(order="asc")
    found = await storage.messages.list(PROJECT, run.thread_id, page, run.id)
    return found.data


def deltas(following: Following) -> list[Any]:
    return [part for each in following.events for part in each.message_delta.content]


def cited(text: str, start: int) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "text": text,
        "start_index": start,
        "end_index": start + len(text),
        "file_citation": {"file_id": "file-1"},
    }


def linked(text: str, start: int, file_id: str) -> dict[str, Any]:
    return {
        "type": "file_path",
        "text": text,
        "start_index": start,
        "end_index": start + len(text),
        "file_path": {"file_id": file_id},
    }


def attached(*ids: str) -> list[dict[str, Any]]:
    return [{"file_id": id, "tools": [{"type": CODE_INTERPRETER}]} for id in ids]


async def test_marks_of_results_become_citations_and_others_are_dropped(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    text = "Bees 🐝【1:1†a.txt】 make【1:7†a.txt】 honey【2:0†a.txt】【1:0†b】. 【重要】【1:"
    following, [message] = await whole(storage, engines, models, ASK, Answer(text))
    [part] = message.content
    assert part["text"]["value"] == "Bees 🐝【1:1†a.txt】 make honey【1:0†b】. 【重要】"
    assert part["text"]["annotations"] == [cited("【1:1†a.txt】", 6), cited("【1:0†b】", 28)]
    assert message.attachments == []
    annotated = [part.text for part in deltas(following) if part.text.annotations]
    assert [
        (each.value, each.annotations[0].index, each.annotations[0].quote) for each in annotated
    ] == [("【1:1†a.txt】", 0, "a"), ("【1:0†b】", 1, "")]
    assert [part.text.first for part in deltas(following)].count(True) == 1


async def test_a_text_that_begins_with_a_mark_is_introduced_first(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    following, [message] = await whole(storage, engines, models, ASK, Answer("【1:0†b】"))
    assert [(part.text.value, part.text.first) for part in deltas(following)] == [
        ("", True),
        ("【1:0†b】", False),
    ]
    assert message.content[0]["text"]["annotations"] == [cited("【1:0†b】", 0)]


async def test_a_text_of_nothing_but_unreal_marks_is_empty(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    _, [message] = await whole(storage, engines, models, Answer("【1:0†b】"))
    assert message.content == [{"type": "text", "text": {"value": "", "annotations": []}}]


async def test_without_tools_nothing_is_a_reference(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    text = "【1:0†b】 (sandbox:/mnt/data/old.csv)"
    _, [message] = await whole(storage, engines, models, Answer(text), tools=[FUNCTION])
    assert message.content == [{"type": "text", "text": {"value": text, "annotations": []}}]


async def test_images_stand_ahead_of_the_next_text(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    steps = Calls(code("image"), text="First"), Calls(code("1")), Answer("See")
    following, messages = await whole(storage, engines, models, *steps)
    image = {"type": "image_file", "image_file": {"file_id": "file-1"}}
    assert [[part["type"] for part in each.content] for each in messages] == [
        ["text"],
        ["image_file", "text"],
    ]
    assert messages[1].content[0] == image
    shown = [(part.index, part.WhichOneof("part")) for part in deltas(following)]
    assert shown[-2:] == [(0, "image_file"), (1, "text")]


async def test_links_get_their_files_and_the_rest_is_attached_at_the_end(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    text = "[x](sandbox:/mnt/data/x%20y.csv) [o](sandbox:/mnt/data/old.csv) sandbox:/mnt/data/no"
    steps = Calls(code("write")), Calls(code("1"), text="[x](sandbox:/mnt/data/x y.csv)")
    following, [first, second] = await whole(storage, engines, models, *steps, Answer(text))
    assert first.content[0]["text"]["annotations"] == [
        linked("sandbox:/mnt/data/x y.csv", 4, "file-2")
    ]
    assert first.attachments == attached("file-2")
    assert second.content[0]["text"] == {
        "value": text,
        "annotations": [
            linked("sandbox:/mnt/data/x%20y.csv", 4, "file-2"),
            linked("sandbox:/mnt/data/old.csv", 37, "file-0"),
        ],
    }
    assert second.attachments == attached("file-2", "file-0", "file-3")
    links = [part.text.value for part in deltas(following) if part.text.annotations]
    assert links == [
        "sandbox:/mnt/data/x y.csv",
        "sandbox:/mnt/data/x%20y.csv",
        "sandbox:/mnt/data/old.csv",
    ]


async def test_what_calls_have_given_outlives_their_server(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    """A model that is held, a server that dies: the next one knows the results of its turns."""
    held = Hold(Answer("never"))
    answer = Answer("【1:1†a.txt】 (sandbox:/mnt/data/z.csv)")
    calls = Calls(("search", {}), code("write"), code("image"))
    model = models.script(calls, held, answer)
    first = engines.start(Search(), Python())
    following = await engines.run(first, model, tools=[SEARCH, PYTHON])
    run = following.run
    await until_held(held)
    await first.settled(run.id)
    await set_run(storage, run, lease_until=PAST)
    second = engines.start(Search(), Python())
    rest = Following(run, second.streams.follow(await get_run(storage, run), 1))
    await rest.ended()
    [message] = await written(storage, run)
    assert [part["type"] for part in message.content] == ["image_file", "text"]
    assert message.content[1]["text"]["annotations"] == [
        cited("【1:1†a.txt】", 0),
        linked("sandbox:/mnt/data/z.csv", 13, "file-3"),
    ]
    assert message.attachments == attached("file-3", "file-2")
    held.release()


async def until_held(step: Hold) -> None:
    await asyncio.to_thread(step.held.wait, 60)


async def test_a_function_that_the_model_has_made_up_is_answered(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    model = models.script(Calls(("g", {"a": 1}), ("f", {})), Answer("Done"))
    engine = engines.start(Python())
    following = await engines.run(engine, model, tools=[PYTHON, FUNCTION])
    assert (await following.ended())[-2:] == ["thread.run.requires_action", "done"]
    [awaited] = following.events[-2].run.required_action.submit_tool_outputs.tool_calls
    assert awaited.function.name == "f"
    run, first = await engines.submit(engine, following.run, (awaited.id, "x"))
    after = Following(run, engine.streams.follow(run, first))
    await after.ended()
    said = "There is no function 'g'. Call one of those that there are, or answer."
    outputs = [turn["content"] for turn in models.requests(model)[1]["messages"][-2:]]
    assert outputs == [said, "x"]
    [step, _] = await engines.steps(run)
    shown = [call["function"]["output"] for call in step.step_details["tool_calls"]]
    assert shown == [said, "x"]


async def test_alone_it_makes_nobody_wait(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    await whole(storage, engines, models, Calls(("g", {})), Answer("Done"))


async def test_a_tool_that_turns_out_to_be_unavailable_fails_the_run(
    storage: Storage, engines: Engines, models: ModelServer
) -> None:
    model = models.script(Calls(code("away")))
    following = await engines.run(engines.start(Python()), model, tools=[PYTHON])
    assert (await following.ended())[-2:] == ["thread.run.failed", "done"]
    run = await get_run(storage, following.run)
    assert run.last_error == {"code": "server_error", "message": "There is no sandbox."}


@pytest.mark.parametrize("piece", range(1, 8))
async def test_what_a_broken_off_message_shows_is_its_deltas(
    storage: Storage, engines: Engines, models: ModelServer, piece: int
) -> None:
    text = "A【1:0†b】"
    held = Hold(Answer(text), after=text[:piece])
    model = models.script(ASK, held)
    engine = engines.start(Search())
    following = await engines.run(engine, model, tools=[SEARCH])
    await until_held(held)
    await following.shown("A")
    run = following.run
    await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    await following.ended()
    check_stream(following.events, interrupted=False)
    await check_stored(storage, run, [following.events])
    [message] = await written(storage, run)
    assert message.content[0]["text"]["value"] in ("A", "A【", text)
