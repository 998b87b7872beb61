"""One walk over all that the API can do: no operation of the contract may be missing from it."""

import openai

from tests.model_server import ModelServer
from tests.rest.scene import Scene, function, outputs
from tests.rest.wire import Wire, operations
from tests.script import Answer, Calls


def test_every_operation(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    model = models.script(Calls(("look", {})), Answer("Done."), Calls(("look", {})))
    scene = Scene.create(client, model, tools=[function("look")])
    _run(client, scene)
    _assistant(client, scene)
    _thread(client, scene)
    assert wire.operations() == set(operations())
    assert len(operations()) == 23


def _run(client: openai.OpenAI, scene: Scene) -> None:
    runs = client.beta.threads.runs
    run = scene.run()
    assert run.status == "requires_action"
    runs.submit_tool_outputs(
        run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": each["tool_call_id"]} for each in outputs(run, "")],
    )
    run = scene.end_of(run)
    assert run.status == "completed"
    assert runs.update(run.id, thread_id=run.thread_id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert [each.id for each in runs.list(run.thread_id)] == [run.id]
    [first, second] = runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    assert runs.steps.retrieve(second.id, run_id=run.id, thread_id=run.thread_id) == second
    assert (first.type, second.type) == ("tool_calls", "message_creation")

    other = client.beta.threads.create_and_run(assistant_id=scene.assistant_id)
    assert scene.end_of(other).status == "requires_action"
    assert runs.cancel(other.id, thread_id=other.thread_id).status == "cancelled"


def _assistant(client: openai.OpenAI, scene: Scene) -> None:
    assistants = client.beta.assistants
    assert assistants.update(scene.assistant_id, name="Guide").name == "Guide"
    assert assistants.retrieve(scene.assistant_id).name == "Guide"
    assert scene.assistant_id in [each.id for each in assistants.list(limit=100)]
    assert assistants.delete(scene.assistant_id).deleted


def _thread(client: openai.OpenAI, scene: Scene) -> None:
    threads = client.beta.threads
    thread_id = scene.thread_id
    assert threads.update(thread_id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert threads.retrieve(thread_id).metadata == {"a": "b"}
    message = threads.messages.create(thread_id, role="user", content="Bye")
    changed = threads.messages.update(message.id, thread_id=thread_id, metadata={"a": "b"})
    assert threads.messages.retrieve(message.id, thread_id=thread_id) == changed
    assert threads.messages.list(thread_id).data[0] == changed
    assert threads.messages.delete(message.id, thread_id=thread_id).deleted
    assert threads.delete(thread_id).deleted
