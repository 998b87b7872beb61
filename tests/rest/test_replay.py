"""What only a model server understands goes back to it within the run, and to nobody else."""

from typing import Any

import openai
import pytest

from tests.support import marked
from tests.support.model_server import ModelServer
from tests.support.rest.resuming import Reader
from tests.support.rest.scene import POLL, Scene, function, outputs
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Deltas, Step
from tests.support.stack import Stack

TOOLS = [function(name) for name in marked.FUNCTIONS]


def begin(client: openai.OpenAI, model: str) -> Scene:
    return Scene.create(client, model, "Weather?", tools=TOOLS)


def run(scene: Scene, streams: bool) -> Any:
    """Runs until there is nothing left to do but to submit outputs."""
    if not streams:
        return scene.run()
    with scene.client.beta.threads.runs.stream(**scene.ids) as stream:
        stream.until_done()
    return stream.get_final_run()


def submit(scene: Scene, run: Any, streams: bool) -> Any:
    given = outputs(run, *marked.OUTPUTS)
    ids: dict[str, Any] = {"run_id": run.id, "thread_id": run.thread_id, "tool_outputs": given}
    runs = scene.client.beta.threads.runs
    if not streams:
        return runs.submit_tool_outputs_and_poll(**ids, poll_interval_ms=POLL)
    with runs.submit_tool_outputs_stream(**ids) as stream:
        stream.until_done()
    return stream.get_final_run()


def look_at_everything(scene: Scene) -> None:
    """Reads all that there is to be read of the thread."""
    threads = scene.client.beta.threads
    threads.retrieve(scene.thread_id)
    for each in scene.messages():
        threads.messages.retrieve(each.id, thread_id=scene.thread_id)
    for found in threads.runs.list(scene.thread_id):
        threads.runs.retrieve(found.id, thread_id=scene.thread_id)
        for step in scene.steps(found):
            threads.runs.steps.retrieve(step.id, thread_id=scene.thread_id, run_id=found.id)


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "polled"])
def test_it_is_in_the_next_request_and_in_no_answer(
    client: openai.OpenAI, server: Stack, models: ModelServer, wire: Wire, streams: bool
) -> None:
    model = models.script(marked.calls(), marked.answer(), Answer("Yes."), Answer("No."))
    scene = begin(client, model)
    pending = run(scene, streams)
    look_at_everything(scene)
    ended = submit(scene, pending, streams)
    assert (pending.status, ended.status) == ("requires_action", "completed")
    assert scene.texts() == ["Weather?", marked.SPOKEN, marked.ANSWER]
    look_at_everything(scene)
    assert {step.type for step in scene.steps(ended)} == {"message_creation", "tool_calls"}
    events = Reader(server, ended).read()
    assert events[-1].name == "done"

    first, second = models.requests(model)
    assert second["messages"] == [*first["messages"], *marked.REPLAYED]
    # Later runs of the thread and of its copy have its messages.
    assert run(scene, streams).status == "completed"
    copy = client.post(f"/threads/{scene.thread_id}/copy", cast_to=object, body={})
    assert isinstance(copy, dict)
    copied = Scene(client, scene.assistant_id, copy["id"])
    assert run(copied, streams).status == "completed"
    look_at_everything(copied)
    for request in models.requests(model)[2:]:
        contents = [message["content"] for message in request["messages"]]
        assert contents[:3] == ["Weather?", marked.SPOKEN, marked.ANSWER]
        assert marked.MARK not in str(request)

    assert marked.MARK not in str(events)
    assert len(wire.exchanges) > 20
    for exchange in wire.exchanges:
        assert marked.MARK.encode() not in exchange.data, exchange.path


@pytest.mark.parametrize("reason", ["length", "content_filter", "stop"])
def test_it_is_in_no_answer_of_a_run_that_ends(
    client: openai.OpenAI, server: Stack, models: ModelServer, wire: Wire, reason: str
) -> None:
    reply = marked.answer()
    reply.finish_reason = reason
    scene = begin(client, models.script(reply))
    ended = run(scene, streams=True)
    assert ended.status in ("incomplete", "failed", "completed")
    look_at_everything(scene)
    assert marked.MARK not in str(Reader(server, ended).read())
    for exchange in wire.exchanges:
        assert marked.MARK.encode() not in exchange.data, exchange.path


def _called(index: int, id: str, name: str | None, arguments: str) -> dict[str, Any]:
    own = {"name": name} if name else {}
    return {"tool_calls": [{"index": index, "id": id, "function": own | {"arguments": arguments}}]}


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        pytest.param(
            [_called(0, "same", "look", "{}"), _called(1, "same", "listen", "{}")],
            None,
            id="one id for both",
        ),
        pytest.param(
            [_called(0, "a1", "look", "{}"), _called(1, "", "listen", "{}")], None, id="no id"
        ),
        pytest.param(
            # The name of the first one comes last: callers see it behind the other.
            [
                _called(0, "a1", None, ""),
                _called(1, "b2", "look", "{}"),
                _called(0, "a1", "listen", "{}"),
            ],
            ["b2", "a1"],
            id="a name that comes late",
        ),
    ],
)
def test_whose_ids_are_sent(
    client: openai.OpenAI,
    models: ModelServer,
    deltas: list[dict[str, Any]],
    expected: list[str] | None,
) -> None:
    steps: list[Step] = [Deltas(*deltas, finish_reason="tool_calls"), Answer("Sunny.")]
    model = models.script(*steps)
    scene = begin(client, model)
    pending = run(scene, streams=False)
    given = outputs(pending, *marked.OUTPUTS)
    ours = [each["tool_call_id"] for each in given]
    assert all(each.startswith("call_") for each in ours)
    assert submit(scene, pending, streams=False).status == "completed"
    [_, turn, *results] = models.requests(model)[1]["messages"]
    assert [call["id"] for call in turn["tool_calls"]] == (expected or ours)
    assert [call["function"]["name"] for call in turn["tool_calls"]] == ["look", "listen"]
    assert [(each["tool_call_id"], each["name"], each["content"]) for each in results] == list(
        zip(expected or ours, marked.FUNCTIONS, marked.OUTPUTS, strict=True)
    )


def test_every_turn_of_a_run_is_replayed(client: openai.OpenAI, models: ModelServer) -> None:
    # Servers count anew in each turn.
    model = models.script(marked.calls(), marked.calls(), marked.answer())
    scene = begin(client, model)
    ended = submit(scene, submit(scene, run(scene, False), False), True)
    assert ended.status == "completed"
    first, *_, last = models.requests(model)
    assert last["messages"] == [*first["messages"], *marked.REPLAYED, *marked.REPLAYED]
