"""Streams that are cut and taken up again: nothing is lost, and nothing comes twice."""

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx2
import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.resuming import Event, Reader, one_at_a_time, texts
from tests.support.rest.scene import Scene, function, outputs, wait
from tests.support.rest.streams import check_stream
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls, Hold
from tests.support.sequences import AFTER_OUTPUTS, PLAIN, WITH_CALLS, folded
from tests.support.stack import Stack

TOOLS = [function("look")]
SECONDS = 60
"""How long a request may take."""

ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


def names(events: list[Event]) -> list[str]:
    """Returns the names, those that follow each other shown as one, of a stream that is whole."""
    check_stream([(event.name, event.data) for event in events])
    assert all(one.id < next_one.id for one, next_one in pairwise(events))
    return folded([event.name for event in events])


def test_every_cut_of_a_run_that_is_over(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello there, you.")))
    reader = Reader(server, scene.run())
    whole = reader.read()
    assert names(whole) == PLAIN
    assert texts(whole) == "Hello there, you."
    for at, event in enumerate(whole[:-1], 1):
        assert reader.read(event.id) == whole[at:]
        assert reader.read(after_sequence=event.id) == whole[at:]
        # What a client repeats at each connection gives way to what it has read since.
        assert reader.read(event.id, after_sequence=0) == whole[at:]
    assert reader.read(after_sequence=0) == whole
    # Behind its end there is nothing but the end.
    assert reader.read(whole[-1].id) == whole[-1:]


def test_every_cut_of_a_run_that_goes_on(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there, you."), after="Hello")
    scene = Scene.create(client, models.script(hold))
    reader = Reader(server, scene.start())
    read = []
    for event in one_at_a_time(reader, 0):
        read.append(event)
        if texts(read) == "Hello":
            hold.release()
    assert names(read) == PLAIN
    assert read == reader.read()


def test_every_cut_of_a_run_that_calls(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    calls = Calls(("look", {"city": "Paris"}), ("look", {"city": "Rome"}))
    scene = Scene.create(client, models.script(calls, Answer("Both are fine.")), tools=TOOLS)
    run = scene.start()
    reader = Reader(server, run)
    first = list(one_at_a_time(reader, 0))
    assert names(first) == WITH_CALLS
    run = scene.end_of(run)
    # It waits for what will come.
    with reader.open(first[-1].id) as following:
        client.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "yes", "no")
        )
        second = list(following)
    assert names(second) == AFTER_OUTPUTS
    assert list(one_at_a_time(reader, first[-1].id)) == second
    for turn in (first, second):
        for at, event in enumerate(turn[:-1], 1):
            assert reader.read(event.id) == turn[at:]
    assert reader.read() == first


def test_many_readers(client: openai.OpenAI, server: Stack, models: ModelServer) -> None:
    hold = Hold(Answer("Hello there, you."), after="Hello")
    scene = Scene.create(client, models.script(hold))
    reader = Reader(server, scene.start())
    with ThreadPoolExecutor(12) as threads:
        reading = [threads.submit(reader.read) for _ in range(8)]
        wait(hold.held)
        reading += [threads.submit(reader.read, number) for number in range(4)]
        hold.release()
        read = [each.result() for each in reading]
    assert names(read[0]) == PLAIN
    assert read[1:8] == read[:1] * 7
    assert read[8:] == [read[0][number:] for number in range(4)]


@pytest.mark.parametrize("headers", [{"x-event-ids": "on"}, {"x-event-ids": "off"}, {}], ids=str)
def test_ids_are_asked_for(
    client: openai.OpenAI, models: ModelServer, wire: Wire, headers: dict[str, str]
) -> None:
    scene = Scene.create(
        client, models.script(Calls(("look", {})), Answer("Done."), Answer("Hello")), tools=TOOLS
    )
    runs, streams = client.beta.threads.runs, []
    list(runs.create(**scene.ids, stream=True, extra_headers=headers))
    streams.append(wire.last)
    [run] = runs.list(scene.thread_id)
    given = outputs(run, "1")
    list(
        runs.submit_tool_outputs(
            run.id,
            thread_id=run.thread_id,
            tool_outputs=given,
            stream=True,
            extra_headers=headers,
        )
    )
    streams.append(wire.last)
    list(
        client.beta.threads.create_and_run(
            assistant_id=scene.assistant_id, stream=True, extra_headers=headers
        )
    )
    streams.append(wire.last)
    first, second, other = ([int(n) for n in ID.findall(each.data)] for each in streams)
    if headers.get("x-event-ids") != "on":
        assert (first, second, other) == ([], [], [])
        return
    assert first == list(range(1, len(streams[0].events) + 1))
    # A number jumps where a run was taken up again, if at all.
    assert second[0] > first[-1]
    assert second == list(range(second[0], second[0] + len(streams[1].events)))
    assert other == list(range(1, len(streams[2].events) + 1))


def test_a_stream_of_the_api_goes_on_here(
    client: openai.OpenAI, server: Stack, models: ModelServer, wire: Wire
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    on = {"x-event-ids": "on"}
    with client.beta.threads.runs.stream(**scene.ids, extra_headers=on) as stream:
        streamed = wire.last
        deltas = iter(stream.text_deltas)
        assert next(deltas) + next(deltas) == "Hello"
        run = stream.current_run
    assert run is not None
    last = int(ID.findall(streamed.data)[-1])
    with Reader(server, run).open(last) as following:
        hold.release()
        rest = list(following)
    assert texts(rest) == " there"
    assert folded([event.name for event in rest])[-1] == "done"
    assert not streamed.whole


def test_a_message_that_is_broken_off_carries_all_its_text(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    reader = Reader(server, scene.start())
    read: list[Event] = []
    with reader.open() as events:
        while texts(read) != "Hell":
            read.append(next(events))
    with reader.open(read[-1].id) as events:
        read.append(next(events))
        assert texts(read) == "Hello"
    with reader.open(read[-1].id) as events:
        client.beta.threads.delete(scene.thread_id)
        read += events
    assert names(read)[-4:] == [
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]


def test_a_run_that_is_cancelled_while_it_waits_for_outputs(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Calls(("look", {}))), tools=TOOLS)
    run = scene.run()
    reader = Reader(server, run)
    paused = reader.read()
    with reader.open(paused[-1].id) as following:
        client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
        assert [event.name for event in following] == [
            "thread.run.step.cancelled",
            "thread.run.cancelled",
            "done",
        ]


def test_a_number_from_the_future(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    run = scene.run()
    reader = Reader(server, run)
    last = reader.read()[-1].id
    for refusal in (reader.refusal(str(last + 1)), reader.refusal(after_sequence=last + 1)):
        assert refusal == (
            400,
            {
                "message": f"Invalid 'after_sequence': run {run.id} has no event of number "
                f"{last + 1} yet.",
                "type": "invalid_request_error",
                "param": "after_sequence",
                "code": "invalid_value",
            },
        )


@pytest.mark.parametrize("last", ["", "x", "-1", "1.0", "1" * 19, "0x1", "1 2"])
def test_an_id_that_no_event_has(
    client: openai.OpenAI, server: Stack, models: ModelServer, last: str
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    status, error = Reader(server, scene.run()).refusal(last)
    assert (status, error["param"], error["code"]) == (400, "Last-Event-ID", "invalid_value")
    assert error["message"] == f"Invalid 'Last-Event-ID': '{last}' is not the id of an event."


def test_digits_of_other_scripts_are_no_id(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    run = scene.run()
    url = f"{server.base_url}/threads/{run.thread_id}/runs/{run.id}/events"
    response = httpx2.get(url, headers={b"Last-Event-ID": "١".encode()}, timeout=SECONDS)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "Last-Event-ID")
    assert error["message"] == "Invalid 'Last-Event-ID': '١' is not the id of an event."


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("-1", "integer_below_min_value"),
        ("x", "invalid_type"),
        ("1" * 20, "integer_above_max_value"),
    ],
)
def test_a_number_that_is_none(
    client: openai.OpenAI, server: Stack, models: ModelServer, number: str, code: str
) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    status, error = Reader(server, scene.run()).refusal(after_sequence=number)
    assert (status, error["param"], error["code"]) == (400, "after_sequence", code)


def test_an_unknown_run(client: openai.OpenAI, server: Stack, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Answer("Hello")))
    run = scene.run()
    other = client.beta.threads.create()
    for known, missing in (
        (run.model_copy(update={"id": "run_x"}), "run found with id 'run_x'"),
        (run.model_copy(update={"thread_id": "thread_x"}), "thread found with id 'thread_x'"),
        (run.model_copy(update={"thread_id": other.id}), f"run found with id '{run.id}'"),
    ):
        status, error = Reader(server, known).refusal()
        assert (status, error["message"]) == (404, f"No {missing}.")
