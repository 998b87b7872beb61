"""What is not kept any more, on a server with little room, that is killed now and then."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import openai
import pytest
from assistants.v1 import runs_pb2

from tests.support.grpc.client import connect as connect_grpc
from tests.support.grpc.stubs import user
from tests.support.model_server import ModelServer
from tests.support.rest.resuming import Reader
from tests.support.rest.scene import Scene, expect, wait
from tests.support.script import Answer, Hold
from tests.support.sequences import PLAIN, folded
from tests.support.stack import Stack, serving
from tests.support.waiting import until

QUARTER = "x" * 256_000
"""Instructions, which each of a run's own events carries: four make a MiB."""


@pytest.fixture(scope="module")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own, whose runs wait behind each other unless they say otherwise."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_EVENTS_MAX_BYTES": str(2**20),
        # Long enough for what is refused: behind a comment it would be too late for a status.
        "ASSISTANTS_KEEP_ALIVE_SECONDS": "2",
        "ASSISTANTS_LEASE_SECONDS": "1",
        "ASSISTANTS_SHUTDOWN_GRACE": "0",
        "ASSISTANTS_WHEN_ACTIVE": "queue",
    }
    with serving(settings) as stack:
        yield stack


def gone(run_id: str, after: int) -> tuple[int, dict[str, str | None]]:
    error = {
        "message": f"The events of run {run_id} after number {after} are not kept any more.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    return 410, error


def test_too_many_bytes(client: openai.OpenAI, server: Stack, models: ModelServer) -> None:
    model = models.script(*[Answer("Hello")] * 3)
    runs = [Scene.create(client, model, instructions=QUARTER).run()]
    reader = Reader(server, runs[0])
    whole = reader.read()
    assert folded([event.name for event in whole]) == PLAIN
    runs += [Scene.create(client, model, instructions=QUARTER).run() for _ in range(2)]
    assert reader.refusal() == gone(runs[0].id, 0)
    before_last = whole[-2].id
    assert reader.refusal(str(before_last)) == gone(runs[0].id, before_last)
    # Nothing is missing to those who have received it all, and nobody is ahead of that.
    assert reader.read(whole[-1].id) == whole[-1:]
    assert reader.refusal(str(whole[-1].id + 1))[0] == 400
    with connect_grpc(server.grpc_address) as stubs:
        request = runs_pb2.StreamRunEventsRequest(thread_id=runs[0].thread_id, run_id=runs[0].id)
        with pytest.raises(grpc.RpcError) as refused:
            list(stubs.runs.StreamRunEvents(request))
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert refused.value.details() == gone(runs[0].id, 0)[1]["message"]


def test_waiting_runs_outlive_a_crash(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    hold, again = Hold(Answer("One"), after="On"), Hold(Answer("One again"))
    model = models.script(hold, again, Answer("Two"), Answer("Three"))
    scene = Scene.create(client, model)
    active = scene.start()
    wait(hold.held)
    begun = Reader(server, active)
    with begun.open() as events:
        last_seen = next(event.id for event in events if event.name == "thread.message.delta")
    waiting = [scene.start(additional_messages=[]), scene.start()]
    client.beta.threads.messages.create(scene.thread_id, role="user", content="More?")
    readers = [Reader(server, run) for run in waiting]
    for reader in readers:
        with reader.open() as events:
            assert [next(events).name for _ in range(2)] == PLAIN[:2]
    cancelled = scene.start()
    over = Scene.create(client, models.script(Answer("Hello"))).run()
    last = Reader(server, over).read()[-1].id
    server.kill()
    wait(hold.disconnected)

    server.start()
    wait(again.held)
    assert Reader(server, over).refusal() == gone(over.id, 0)
    assert Reader(server, over).refusal(str(last)) == gone(over.id, last)
    # Of what was published meanwhile some is gone; nobody gets half of it.
    assert begun.refusal(str(last_seen)) == gone(active.id, last_seen)
    # The beginning was published by the server that is no more: its numbers are not given again.
    with Reader(server, cancelled).open(2) as events:
        client.beta.threads.runs.cancel(cancelled.id, thread_id=scene.thread_id)
        rest = list(events)
    assert [event.name for event in rest] == [
        "thread.run.cancelling",
        "thread.run.cancelled",
        "done",
    ]
    assert rest[0].id > 2
    with readers[0].open(2) as one, readers[1].open(2) as other:
        again.release()
        for events in (one, other):
            rest = list(events)
            assert folded([event.name for event in rest]) == PLAIN[2:]
            assert rest[0].id > 2
    runs = list(client.beta.threads.runs.list(scene.thread_id, order="asc"))
    assert [run.status for run in map(scene.end_of, runs)] == ["completed"] * 3 + ["cancelled"]
    assert [
        [message["content"] for message in request["messages"]]
        for request in models.requests(model)[1:]
    ] == [
        ["Hello"],
        ["Hello", "One again", "More?"],
        ["Hello", "One again", "More?", "Two"],
    ]


def test_the_setting(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("One"))
    scene = Scene.create(client, models.script(hold, Answer("Two")))
    active = scene.start()
    wait(hold.held)
    waiting = scene.start()
    assert waiting.status == "queued"
    client.beta.threads.messages.create(scene.thread_id, role="user", content="More?")
    reject = {"when_active": "reject"}
    message = f"Thread {scene.thread_id} already has an active run {active.id}."
    expect(client, lambda _: scene.start(extra_body=reject), 400, message, None, None)
    message = f"Can't add messages to {scene.thread_id} while a run {active.id} is active."
    expect(
        client,
        lambda client: client.beta.threads.messages.create(
            scene.thread_id, role="user", content="no", extra_body=reject
        ),
        400,
        message,
        None,
        None,
    )
    hold.release()
    assert scene.end_of(waiting).status == "completed"


async def test_keep_alives(client: openai.OpenAI, server: Stack, models: ModelServer) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    comments: list[str] = []
    with Reader(server, run).open(None, comments) as events, ThreadPoolExecutor() as threads:
        reading = threads.submit(list, events)
        await until(lambda: len(comments) > 0)
        hold.release()
        read = reading.result()
    assert folded([event.name for event in read]) == PLAIN
    assert set(comments) == {": keep-alive"}


def test_a_shutdown_is_no_disconnect(
    client: openai.OpenAI, server: Stack, models: ModelServer
) -> None:
    hold = Hold(Answer("One"))
    scene = Scene.create(client, models.script(hold, Answer("One again")))
    with connect_grpc(server.grpc_address) as stubs:
        request = runs_pb2.CreateRunRequest(**scene.ids, cancel_on_disconnect=True)
        request.additional_messages.append(user("And?"))
        events = stubs.runs.StreamRun(request)
        run = next(events).run
        wait(hold.held)
        stopping = threading.Thread(target=server.terminate)
        stopping.start()
        assert list(events)[-1].event == "error"
        stopping.join()
    server.start()
    [found] = client.beta.threads.runs.list(scene.thread_id)
    assert (found.id, scene.end_of(found).status) == (run.id, "completed")
    assert scene.texts() == ["Hello", "And?", "One again"]
