"""The tool file_search: queries, how much a model gets, and runs that wait for files."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.files.results import Result
from service.models.client import ChatModel
from service.runner.tools.file_search import (
    FileSearch,
    SearchLimits,
    fitting,
    of_text,
    parse_queries,
)
from service.runner.tools.tool import Call, ToolFailed
from service.runner.tools.tool import Result as Called
from storage import Storage
from storage.errors import FilesNotReady
from storage.rows import Thread, VectorStore
from tests.support.files.world import World
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.script import Answer, Calls, Fail
from tests.support.sequences import QUEUED
from tests.support.storage.rows import (
    PROJECT,
    get_run,
    make_assistant,
    make_run,
    make_thread,
    new_run,
    set_run,
)

SEARCH = {"type": "file_search"}
ASK = Calls(("file_search", {"queries": ["honey"]}))
STORE = {"file_search": {"vector_store_ids": ["vs_1"]}}
WORDS = "Bees make honey from nectar. "


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [
        ('{"queries": ["a", " b ", "", "a"]}', ["a", "b"]),
        ('{"queries": "a"}', ["a"]),
        ('{"query": "a"}', ["a"]),
        ('{"queries": [], "q": "a"}', ["a"]),
        ('["a", 7, {}]', ["a", "7"]),
        ('"a"', ["a"]),
        ("what do bees make?", ["what do bees make?"]),
        ('{"queries": ["1", "2", "3", "4", "5", "6"]}', ["1", "2", "3", "4", "5"]),
        ('{"other": "a"}', []),
        ("", []),
        ("null", []),
        (f'"{"x" * 2000}"', ["x" * 1000]),
    ],
)
def test_queries_are_found_in_whatever_models_write(arguments: str, queries: list[str]) -> None:
    assert parse_queries(arguments) == queries


def result(tokens: int) -> Result:
    return Result("vs_1", "file-1", "a.txt", {}, 1.0, "x" * tokens, tokens, 1)


@pytest.mark.parametrize(
    ("sizes", "tokens", "lengths"),
    [
        ([800, 800, 800], 1700, [800, 800]),
        ([800], 800, [800]),
        # Of the best one, as much as fits, and something in any case.
        ([800, 1], 400, [400]),
        ([800], 0, [128]),
        ([100], 0, [100]),
        ([], 100, []),
    ],
)
def test_results_fit_in_a_budget(sizes: list[int], tokens: int, lengths: list[int]) -> None:
    assert [*map(len, fitting([*map(result, sizes)], tokens))] == lengths


class Searching:
    """A store with a text, and engines that search in it."""

    def __init__(self, storage: Storage, engines: Engines, model: ChatModel) -> None:
        self.storage = storage
        self.world = World(storage.database)
        self._engines = engines
        self._model = model

    async def fill(self, *texts: str) -> None:
        await self.world.store("vs_1")
        for number, text in enumerate(texts):
            await self.world.put("vs_1", f"file-{number}", text)

    async def run(self, model: str, mode: Any = "auto", **changes: Any) -> Following:
        limits = changes.pop("limits", None)
        tool = FileSearch(
            self.storage.vector_stores,
            self.world.search,
            self._model.calls_functions,
            mode,
            limits,
        )
        engine = self._engines.start(tool)
        given: dict[str, Any] = {"tools": [SEARCH], "tool_resources": STORE}
        return await self._engines.run(engine, model, **given | changes)


@pytest.fixture
def searching(storage: Storage, engines: Engines, chat_model: ChatModel) -> Searching:
    return Searching(storage, engines, chat_model)


async def found(engines: Engines, following: Following) -> list[dict[str, Any]]:
    [step] = [step for step in await engines.steps(following.run) if step.type == "tool_calls"]
    [call] = step.step_details["tool_calls"]
    results: list[dict[str, Any]] = call["file_search"]["results"]
    return results


@pytest.mark.parametrize(
    ("limits", "options", "count"),
    [
        (None, {}, 3),
        (SearchLimits(results=2), {}, 2),
        (SearchLimits(results=2), {"max_num_results": 3}, 3),
        (SearchLimits(tokens=200), {}, 1),
        (None, {"ranking_options": {"ranker": "auto", "score_threshold": 1.0}}, 0),
    ],
)
async def test_limits(
    searching: Searching,
    engines: Engines,
    models: ModelServer,
    limits: SearchLimits | None,
    options: dict[str, Any],
    count: int,
) -> None:
    await searching.fill(*(f"{WORDS * 20}{name}." for name in ("one", "two", "three")))
    tool = {"type": "file_search", "file_search": options}
    model = models.script(ASK, Answer("Honey."))
    following = await searching.run(model, limits=limits, tools=[tool])
    await following.ended()
    assert len(await found(engines, following)) == count
    [given] = [t["content"] for t in models.requests(model)[1]["messages"] if t["role"] == "tool"]
    assert given.count("†file-") == count + (count > 0)
    assert ("Nothing was found" in given) == (count == 0)


@pytest.mark.parametrize("refuses", [True, False])
async def test_modes(
    searching: Searching, engines: Engines, models: ModelServer, refuses: bool
) -> None:
    def refusal(request: Any) -> Fail | None:
        return Fail(400, "`tools` is not supported.") if "tools" in request else None

    await searching.fill(WORDS)
    refuse: Callable[[Any], Fail | None] | None = refusal if refuses else None
    model = models.script(Answer("Bees make honey."), refuses=refuse)
    following = await searching.run(model, "always")
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]
    assert len(await found(engines, following)) == 1
    [request] = models.requests(model)
    assert "tools" not in request
    assert (await engines.texts(following.run))[-1][2] == "Bees make honey.【1:0†file-0.txt】"

    model = models.script(Answer("Hm."), refuses=refuse)
    following = await searching.run(model, "tool")
    end = "thread.run.failed" if refuses else "thread.run.completed"
    assert (await following.ended())[-2:] == [end, "done"]


async def called(
    searching: Searching, tool: FileSearch, text: str = "honey", **options: Any
) -> list[dict[str, Any]]:
    """Executes a call of a new run, and returns what it finds."""
    await make_assistant(searching.storage)
    thread = await make_thread(searching.storage)
    run = await make_run(searching.storage, thread, tool_resources=STORE)
    call = Call("call_1", run, 1, text, SEARCH, **options)
    [result] = [each async for each in tool.execute(call)]
    assert isinstance(result, Called)
    results: list[dict[str, Any]] = result.details["results"]
    return results


@pytest.mark.parametrize(
    ("ahead", "room", "count"),
    [
        # A model that calls no functions reads slowly: the embedded one is given a chunk, or two.
        (True, None, 3),
        (True, 4000, 2),
        (True, 1000, 1),
        (False, None, 3),
        (False, 1000, 2),
        # What other calls have left: of the best one, something.
        (False, 0, 1),
    ],
)
async def test_results_fit_in_the_room(
    searching: Searching, ahead: bool, room: int | None, count: int
) -> None:
    await searching.fill(*(f"{WORDS * 40}{name}." for name in ("one", "two", "three")))
    tool = FileSearch(searching.storage.vector_stores, searching.world.search, lambda _: not ahead)
    assert len(await called(searching, tool, room=room, ahead=ahead)) == count


async def test_what_the_user_says_is_no_call(searching: Searching) -> None:
    await searching.fill(WORDS)
    tool = FileSearch(searching.storage.vector_stores, searching.world.search, lambda _: False)
    text = '{"what": "honey"}'
    assert await called(searching, tool, text=text, ahead=True)
    with pytest.raises(ToolFailed, match="No query"):
        await called(searching, tool, text=text)


def test_a_long_text_is_searched_for_as_it_begins_and_ends() -> None:
    assert of_text("null") == ["null"]
    assert of_text("\n" * 2000 + "a" * 1000) == ["a" * 1000]
    assert of_text("a" * 1000 + "b") == ["a" * 1000, "a" * 999 + "b"]


async def test_no_query_is_answered(
    searching: Searching, engines: Engines, models: ModelServer
) -> None:
    await searching.fill(WORDS)
    model = models.script(Calls(("file_search", {})), Answer("Hm."))
    following = await searching.run(model)
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]
    assert await found(engines, following) == []
    assert models.requests(model)[1]["messages"][-1]["content"].startswith("No query was given.")


class Waiting:
    """A thread whose file is being indexed."""

    def __init__(self, searching: Searching, thread: Thread) -> None:
        self._searching = searching
        self.thread = thread

    @classmethod
    async def begin(cls, searching: Searching) -> "Waiting":
        await searching.fill(WORDS)
        thread = await make_thread(searching.storage, "Hi")
        waiting = cls(searching, thread)
        await waiting._change(Thread, thread.id, tool_resources=STORE)
        await waiting.index(1)
        return waiting

    async def index(self, files: int) -> None:
        await self._change(VectorStore, "vs_1", in_progress=files)

    async def _change(self, row: Any, id: str, **changes: Any) -> None:
        database = self._searching.storage.database
        await database.write(lambda tx: tx.change(row, id, **changes), PROJECT)


@pytest.mark.parametrize("how", ["indexed", "too long", "cancelled"])
async def test_a_run_waits_for_its_threads_files(
    searching: Searching, storage: Storage, engines: Engines, models: ModelServer, how: str
) -> None:
    waiting = await Waiting.begin(searching)
    tool = FileSearch(storage.vector_stores, searching.world.search, lambda _: True)
    engine = engines.start(tool)
    new = new_run(model=models.script(Answer("Yes.")), tools=[SEARCH])
    run, first = await engine.start(
        lambda claim: storage.runs.create(PROJECT, waiting.thread.id, new, [], claim=claim)
    )
    following = Following(run, engine.streams.follow(run, first), engine)
    with pytest.raises(FilesNotReady):
        await storage.claims.claim(run.id)
    assert (await get_run(storage, run)).status == "queued"
    match how:
        case "indexed":
            await waiting.index(0)
        case "too long":
            await set_run(storage, run, queued_at=run.queued_at - 61)
        case _:
            await engine.announce(await storage.runs.cancel(PROJECT, run.thread_id, run.id))
    names = await following.ended()
    if how == "cancelled":
        assert names[-3:] == ["thread.run.cancelling", "thread.run.cancelled", "done"]
    else:
        assert names[:3] == QUEUED
        assert names[-2:] == ["thread.run.completed", "done"]


async def test_only_runs_that_search_wait(
    searching: Searching, storage: Storage, engines: Engines, models: ModelServer
) -> None:
    waiting = await Waiting.begin(searching)
    engine = engines.start()
    new = new_run(model=models.script(Answer("Yes.")))
    run, first = await engine.start(
        lambda claim: storage.runs.create(PROJECT, waiting.thread.id, new, [], claim=claim)
    )
    assert (await Following(run, engine.streams.follow(run, first)).ended())[-1] == "done"


async def test_no_run_waits_for_its_assistants_files(
    searching: Searching, storage: Storage, engines: Engines, models: ModelServer
) -> None:
    await Waiting.begin(searching)
    model = models.script(ASK, Answer("Honey."))
    following = await searching.run(model)
    assert (await following.ended())[-2:] == ["thread.run.completed", "done"]
    assert await found(engines, following)


async def test_a_server_that_stops_forgets_who_waits(
    searching: Searching, storage: Storage, engines: Engines, models: ModelServer
) -> None:
    waiting = await Waiting.begin(searching)
    first = engines.start()
    new = new_run(model=models.script(Answer("Yes.")), tools=[SEARCH])
    run, _ = await first.start(
        lambda claim: storage.runs.create(PROJECT, waiting.thread.id, new, [], claim=claim)
    )
    await engines.drain(first, 0)
    await waiting.index(0)
    engines.start(FileSearch(storage.vector_stores, searching.world.search, lambda _: True))

    async with asyncio.timeout(60):
        while (await get_run(storage, run)).status != "completed":
            await asyncio.sleep(0.02)
