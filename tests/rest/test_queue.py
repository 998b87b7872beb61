"""Runs that wait for a worker, on a server that executes one run at a time."""

from collections.abc import Iterator

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold
from tests.support.sequences import PLAIN
from tests.support.stack import Stack, serving


@pytest.fixture(scope="module")
def server(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_WORKER_CONCURRENCY": "1",
    }
    with serving(settings) as stack:
        yield stack


@pytest.fixture
def hold(client: openai.OpenAI, models: ModelServer) -> Iterator[Hold]:
    """A run that keeps the worker busy until it is released."""
    hold = Hold(Answer("At last."))
    scene = Scene.create(client, models.script(hold))
    run = scene.start()
    wait(hold.held)
    yield hold
    hold.release()
    assert scene.end_of(run).status == "completed"


def test_cancelling_a_queued_run(
    client: openai.OpenAI, models: ModelServer, wire: Wire, hold: Hold
) -> None:
    model = models.script()
    scene = Scene.create(client, model)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        streamed = wire.last
        assert next(stream).event == "thread.run.created"
        [run] = client.beta.threads.runs.list(scene.thread_id)
        assert (run.status, run.started_at) == ("queued", None)
        run = client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
        assert run.status == "cancelling"
        stream.until_done()
    assert [name for name, _ in streamed.events] == [
        *PLAIN[:2],
        "thread.run.cancelling",
        "thread.run.cancelled",
        "done",
    ]
    assert stream.get_final_run() == scene.end_of(run)
    assert (scene.steps(run), models.requests(model)) == ([], [])


def test_deleting_the_thread_of_a_queued_run(
    client: openai.OpenAI, models: ModelServer, hold: Hold
) -> None:
    model = models.script()
    scene = Scene.create(client, model)
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        assert next(stream).event == "thread.run.created"
        client.beta.threads.delete(scene.thread_id)
        stream.until_done()
    assert stream.get_final_run().status == "cancelled"
    assert models.requests(model) == []


def test_queued_runs_come_one_after_the_other(
    client: openai.OpenAI, models: ModelServer, hold: Hold
) -> None:
    model = models.script(Answer("1"), Answer("2"), Answer("3"))
    scenes = [Scene.create(client, model) for _ in range(3)]
    runs = [scene.start() for scene in scenes]
    assert models.requests(model) == []
    hold.release()
    for number, (scene, run) in enumerate(zip(scenes, runs, strict=True), 1):
        assert scene.end_of(run).status == "completed"
        assert scene.texts() == ["Hello", str(number)]


def test_assistants_take_turns(client: openai.OpenAI, models: ModelServer, hold: Hold) -> None:
    model = models.script(*[Answer("Yes.")] * 6)
    many, few = (Scene.create(client, model, instructions=name) for name in ("many", "few"))
    runs = []
    for scene, count in ((many, 4), (few, 2)):
        for _ in range(count):
            thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
            runs.append(
                client.beta.threads.runs.create(
                    thread_id=thread.id, assistant_id=scene.assistant_id
                )
            )
    hold.release()
    for run in runs:
        assert many.end_of(run).status == "completed"
    order = [request["messages"][0]["content"] for request in models.requests(model)]
    assert order == ["many", "few", "many", "few", "many", "many"]
