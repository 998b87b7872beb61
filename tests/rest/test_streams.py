"""Streams of plain answers: their events, the client's helpers, and readers that come and go."""

import openai
from openai import AssistantEventHandler
from openai.types.beta.threads import Message, Text, TextDelta
from openai.types.beta.threads.runs import RunStep

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, text_of, wait
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold
from tests.support.sequences import PLAIN, folded


class Handler(AssistantEventHandler):
    """Keeps what the client's helper makes of the events."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: list[str] = []
        self.snapshots: list[str] = []
        self.texts: list[str] = []
        self.messages: list[Message] = []
        self.steps: list[RunStep] = []
        self.ended = False

    def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self.deltas.append(delta.value or "")
        self.snapshots.append(snapshot.value)

    def on_text_done(self, text: Text) -> None:
        self.texts.append(text.value)

    def on_message_done(self, message: Message) -> None:
        self.messages.append(message)

    def on_run_step_done(self, run_step: RunStep) -> None:
        self.steps.append(run_step)

    def on_end(self) -> None:
        self.ended = True


def test_a_plain_answer(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    text = "Grüße aus Köln, 你好, \U0001f600!\n\n  data: no event\n"
    scene = Scene.create(client, models.script(Answer(text)))
    with client.beta.threads.runs.stream(**scene.ids, event_handler=Handler()) as stream:
        stream.until_done()
    assert folded(wire.event_names) == PLAIN

    pieces = [text[:at] for at in range(4, len(text), 4)] + [text]
    assert "".join(stream.deltas) == text
    assert stream.snapshots == pieces
    assert stream.texts == [text]
    assert stream.ended

    run = stream.get_final_run()
    assert run.status == "completed"
    assert run == client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert stream.get_final_messages() == stream.messages == scene.messages()[1:]
    assert stream.steps == scene.steps(run)
    assert [step.id for step in stream.get_final_run_steps()] == [step.id for step in stream.steps]


def test_the_stored_message_is_what_was_streamed(
    client: openai.OpenAI, models: ModelServer
) -> None:
    scene = Scene.create(client, models.script(Answer("One two three")))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        assert "".join(stream.text_deltas) == "One two three"
    [_, answer] = scene.messages()
    assert (text_of(answer), answer.role, answer.status) == (
        "One two three",
        "assistant",
        "completed",
    )
    assert (answer.assistant_id, answer.run_id) == (scene.assistant_id, stream.get_final_run().id)


def test_create_with_stream(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Answer("Yes")))
    events = client.beta.threads.runs.create(**scene.ids, stream=True)
    assert [event.event for event in events] == PLAIN[:-1]


def test_a_thread_that_is_created_along(
    client: openai.OpenAI, models: ModelServer, wire: Wire
) -> None:
    assistant = client.beta.assistants.create(model=models.script(Answer("Yes"), Answer("Sure")))
    with client.beta.threads.create_and_run_stream(
        assistant_id=assistant.id,
        thread={
            "messages": [{"role": "user", "content": "Really?"}],
            "metadata": {"a": "b"},
        },
    ) as stream:
        stream.until_done()
    assert wire.event_names == ["thread.created", *PLAIN]
    thread = wire.last.events[0][1]
    run = stream.get_final_run()
    assert (thread["id"], thread["metadata"]) == (run.thread_id, {"a": "b"})
    listed = client.beta.threads.messages.list(run.thread_id, order="asc")
    assert [text_of(message) for message in listed] == ["Really?", "Yes"]

    events = client.beta.threads.create_and_run(assistant_id=assistant.id, stream=True)
    assert [event.event for event in events] == ["thread.created", *PLAIN[:-1]]


def test_deltas_come_as_the_model_writes(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        deltas = iter(stream.text_deltas)
        assert next(deltas) + next(deltas) == "Hello"
        assert not hold.released.is_set()
        [_, answer] = scene.messages()
        assert (answer.status, answer.content, answer.completed_at) == ("in_progress", [], None)
        hold.release()
        assert "".join(deltas) == " there"


def test_a_reader_that_goes_away_does_not_stop_the_run(
    client: openai.OpenAI, models: ModelServer, wire: Wire
) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    events = client.beta.threads.runs.create(**scene.ids, stream=True)
    first = next(iter(events))
    assert first.event == "thread.run.created"
    wait(hold.held)
    events.close()
    assert not wire.last.whole
    hold.release()
    assert scene.end_of(first.data).status == "completed"
    assert not hold.disconnected.is_set()
    assert scene.texts() == ["Hello", "Hello there"]


def test_two_streams_at_once(client: openai.OpenAI, models: ModelServer) -> None:
    hold = Hold(Answer("First"), after="Fir")
    slow = Scene.create(client, models.script(hold))
    fast = Scene.create(client, models.script(Answer("Second")))
    with client.beta.threads.runs.stream(**slow.ids) as stream:
        deltas = iter(stream.text_deltas)
        assert next(deltas) == "Fir"
        with client.beta.threads.runs.stream(**fast.ids) as other:
            assert "".join(other.text_deltas) == "Second"
        hold.release()
        assert "".join(deltas) == "st"
