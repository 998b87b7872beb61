"""Answers from documents, with citations: the official client against the whole server."""

from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest
from openai import AssistantEventHandler
from openai.types.beta.threads import FileCitationAnnotation, Message, Text, TextDelta
from openai.types.beta.threads.runs import FileSearchToolCall, RunStep

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs
from tests.support.script import Answer, Calls, Fail

HONEY = "Bees make honey from nectar. They keep it in combs of wax, for the winter."
SKY = "The sky is blue because air scatters short waves of light more than long ones."
INCLUDE: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
SEARCH: Any = {"type": "file_search"}
ASK = Calls(("file_search", {"queries": ["What do bees make?", "honey"]}))


class Library:
    """Files in a vector store, ready to be searched."""

    def __init__(self, client: openai.OpenAI, **texts: str) -> None:
        self._client = client
        self.files = {
            name: client.files.create(file=(f"{name}.txt", text.encode()), purpose="assistants").id
            for name, text in texts.items()
        }
        batch = client.vector_stores.create()
        self.id = batch.id
        client.vector_stores.file_batches.create_and_poll(
            batch.id, file_ids=list(self.files.values()), poll_interval_ms=20
        )

    @property
    def resources(self) -> Any:
        return {"file_search": {"vector_store_ids": [self.id]}}


@pytest.fixture
def library(client: openai.OpenAI) -> Iterator[Library]:
    yield Library(client, honey=HONEY, sky=SKY)


def searched(step: RunStep) -> FileSearchToolCall:
    assert step.step_details.type == "tool_calls"
    [call] = step.step_details.tool_calls
    assert isinstance(call, FileSearchToolCall)
    return call


def annotations(message: Message) -> list[Any]:
    [part] = message.content
    assert part.type == "text"
    return list(part.text.annotations)


def scene_of(client: openai.OpenAI, models: ModelServer, library: Library, *steps: Any) -> Scene:
    return Scene.create(
        client,
        models.script(*steps),
        "What do bees make?",
        tools=[SEARCH],
        tool_resources=library.resources,
    )


def test_stores_beside_a_new_thread_replace_the_assistants(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    others = Library(client, wax="Bees make wax, too.")
    assistant = client.beta.assistants.create(
        model=models.script(ASK, Answer("Honey.")), tools=[SEARCH], tool_resources=others.resources
    )
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "What do bees make?"}]},
        tool_resources=library.resources,
        poll_interval_ms=20,
    )
    _, step = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)
    results = searched(step).file_search.results or []
    assert {each.file_name for each in results} == {"honey.txt", "sky.txt"}


def test_an_answer_cites_what_was_found(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    answer = "Bees make honey【1:0†honey.txt】, the sky is green【1:9†sky.txt】."
    scene = scene_of(client, models, library, ASK, Answer(answer))
    model = client.beta.assistants.retrieve(scene.assistant_id).model
    run = scene.run()
    assert run.status == "completed"
    step, spoke = scene.steps(run)
    assert (step.type, spoke.type) == ("tool_calls", "message_creation")
    assert step.usage is not None
    call = searched(step)
    options = call.file_search.ranking_options
    assert options is not None
    assert (options.ranker, options.score_threshold) == ("default_2024_08_21", 0)
    assert call.file_search.results is not None
    best, *_ = call.file_search.results
    assert (best.file_id, best.file_name) == (library.files["honey"], "honey.txt")
    assert 0 < best.score <= 1
    assert best.content is None
    found = client.beta.threads.runs.steps.retrieve(
        step.id, thread_id=run.thread_id, run_id=run.id, include=INCLUDE
    )
    results = searched(found).file_search.results
    assert results is not None
    assert [(part.type, part.text) for part in results[0].content or []] == [("text", HONEY)]
    message = scene.messages()[-1]
    [annotation] = annotations(message)
    assert isinstance(annotation, FileCitationAnnotation)
    mark = "【1:0†honey.txt】"
    assert annotation.text == mark
    assert annotation.file_citation.file_id == library.files["honey"]
    assert scene.texts()[-1] == f"Bees make honey{mark}, the sky is green."
    assert scene.texts()[-1][annotation.start_index : annotation.end_index] == mark
    first, second = models.requests(model)
    [tool] = first["tools"]
    assert tool["function"]["name"] == "file_search"
    [given] = [turn["content"] for turn in second["messages"] if turn["role"] == "tool"]
    assert f"{mark}\n{HONEY}" in given
    # The marks of an earlier run mean nothing to a later one.
    again = models.script(Answer("Wax."))
    client.beta.threads.messages.create(scene.thread_id, role="user", content="And?")
    client.beta.threads.runs.create_and_poll(**scene.ids, model=again, poll_interval_ms=20)
    [asked] = models.requests(again)
    assert asked["messages"][1]["content"] == "Bees make honey, the sky is green."


def test_events_are_as_recorded(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    scene = scene_of(client, models, library, ASK, Answer("Honey【1:0†honey.txt】."))
    with client.beta.threads.runs.create(**scene.ids, stream=True, include=INCLUDE) as stream:
        events = list(stream)
    names = [event.event for event in events]
    step = [
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.run.step.delta",
        "thread.run.step.completed",
    ]
    begun = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
    assert names[:8] == [*begun, *step, "thread.run.step.created"]
    assert names[8:11] == [
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
    ]
    assert set(names[11:-3]) == {"thread.message.delta"}
    assert names[-3:] == [
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    created, delta, completed = (events[at].data.to_dict() for at in (3, 5, 6))
    assert created["step_details"] == {"type": "tool_calls", "tool_calls": []}
    [call] = delta["delta"]["step_details"]["tool_calls"]
    options = {"ranker": "default_2024_08_21", "score_threshold": 0.0}
    [done] = completed["step_details"]["tool_calls"]
    assert call == {
        "index": 0,
        "id": done["id"],
        "type": "file_search",
        "file_search": {"ranking_options": options, "results": []},
    }
    assert done["file_search"]["ranking_options"] == options
    assert done["file_search"]["results"][0]["content"] == [{"type": "text", "text": HONEY}]
    pieces = [event.data.to_dict()["delta"]["content"] for event in events[11:-3]]
    marked = [part["text"] for [part] in pieces if part["text"].get("annotations")]
    mark = "【1:0†honey.txt】"
    assert marked == [
        {
            "value": mark,
            "annotations": [
                {
                    "index": 0,
                    "type": "file_citation",
                    "text": mark,
                    "start_index": 5,
                    "end_index": 5 + len(mark),
                    "file_citation": {"file_id": library.files["honey"], "quote": HONEY},
                }
            ],
        }
    ]
    assert "".join(part["text"]["value"] for [part] in pieces) == f"Honey{mark}."


class Helper(AssistantEventHandler):
    """What the client's helper makes of the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[Any] = []
        self.done: list[Any] = []
        self.annotated: list[Any] = []
        self.text: Text | None = None

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.created.append(tool_call)

    def on_tool_call_done(self, tool_call: Any) -> None:
        self.done.append(tool_call)

    def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self.annotated += delta.annotations or []

    def on_text_done(self, text: Text) -> None:
        self.text = text


def test_the_clients_helper_shows_it(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    scene = scene_of(client, models, library, ASK, Answer("Honey【1:0†honey.txt】."))
    with client.beta.threads.runs.stream(**scene.ids, event_handler=Helper()) as stream:
        stream.until_done()
        [message] = stream.get_final_messages()
    handler = stream
    assert [call.type for call in handler.created] == ["file_search"]
    # The helper says so at the end of every step.
    assert {call.type for call in handler.done} == {"file_search"}
    assert {call.id for call in handler.done} == {call.id for call in handler.created}
    assert [each.text for each in handler.annotated] == ["【1:0†honey.txt】"]
    assert handler.text is not None
    [annotation] = handler.text.annotations
    assert annotation == annotations(message)[0]
    assert message == scene.messages()[-1]


def test_the_threads_own_files_are_waited_for_and_searched_with_the_assistants(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    scene = scene_of(client, models, library, ASK, Answer("Wax.【1:0†wax.txt】"))
    file = client.files.create(
        file=("wax.txt", b"What do bees make? Bees make wax, too."), purpose="assistants"
    )
    attached: Any = [{"file_id": file.id, "tools": [SEARCH]}]
    client.beta.threads.messages.create(
        scene.thread_id, role="user", content="And what else?", attachments=attached
    )
    run = scene.run()
    assert run.status == "completed"
    results = searched(scene.steps(run)[0]).file_search.results
    assert results is not None
    names = [result.file_name for result in results]
    assert sorted(names) == ["honey.txt", "sky.txt", "wax.txt"]
    assert len(annotations(scene.messages()[-1])) == 1


def test_options_of_the_tool(client: openai.OpenAI, models: ModelServer, library: Library) -> None:
    ranking = {"ranker": "auto", "score_threshold": 0.2}
    tool: Any = {
        "type": "file_search",
        "file_search": {"max_num_results": 1, "ranking_options": ranking},
    }
    scene = scene_of(client, models, library, ASK, Answer("Yes."), ASK, Answer("No."))
    run = scene.run(tools=[tool])
    call = searched(scene.steps(run)[0]).file_search
    assert call.results is not None
    assert call.ranking_options is not None
    assert (len(call.results), call.ranking_options.score_threshold) == (1, 0.2)
    ranking["score_threshold"] = 1.0
    run = scene.run(tools=[tool])
    assert run.status == "completed"


def test_with_functions_in_one_run(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    mixed = Calls(
        ("file_search", {"queries": ["honey"]}), ("look", {"city": "Bern"}), text="Let me see."
    )
    model = models.script(ASK, mixed, Answer("It is honey【3:0†x】."))
    tools: Any = [SEARCH, function("look")]
    scene = Scene.create(client, model, tools=tools, tool_resources=library.resources)
    run = scene.run()
    assert run.status == "requires_action"
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert call.function.name == "look"
    client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "sunny")
    )
    run = scene.end_of(run)
    assert run.status == "completed"
    assert [step.type for step in scene.steps(run)] == [
        "tool_calls",
        "message_creation",
        "tool_calls",
        "message_creation",
    ]
    # The third call was the function's.
    assert scene.texts()[-1] == "It is honey."


def test_a_choice_forces_the_first_call_only(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    scene = scene_of(client, models, library, ASK, Answer("Honey."))
    run = scene.run(tool_choice=SEARCH)
    assert run.status == "completed"
    assert run.to_dict()["tool_choice"] == SEARCH
    first, second = models.requests(run.model)
    assert first["tool_choice"] == {"type": "function", "function": {"name": "file_search"}}
    assert "tool_choice" not in second


def test_without_a_store_the_model_is_offered_nothing(
    client: openai.OpenAI, models: ModelServer
) -> None:
    model = models.script(Answer("Hello."))
    scene = Scene.create(client, model, tools=[SEARCH])
    assert scene.run(tool_choice=SEARCH).status == "completed"
    [asked] = models.requests(model)
    assert "tools" not in asked
    assert "tool_choice" not in asked


def no_tools(request: Mapping[str, Any]) -> Fail | None:
    """Refuses as Ollama does."""
    if "tools" not in request:
        return None
    return Fail(400, f"registry.ollama.ai/library/{request['model']} does not support tools")


def test_a_model_that_calls_no_functions_is_given_what_was_found(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    model = models.script(
        Answer("They make honey from nectar."),
        Answer("Bees keep it in combs【1:0†honey.txt】."),
        Answer("Nobody knows."),
        refuses=no_tools,
    )
    scene = Scene.create(
        client, model, "What do bees make?", tools=[SEARCH], tool_resources=library.resources
    )
    with client.beta.threads.runs.create(**scene.ids, stream=True) as stream:
        events = list(stream)
    assert [event.event for event in events][3:8] == [
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.run.step.delta",
        "thread.run.step.completed",
        "thread.run.step.created",
    ]
    refused, asked = models.requests(model)
    assert "tools" in refused
    assert "tools" not in asked
    told, turn = asked["messages"]
    mark = "【1:0†honey.txt】"
    assert told["role"] == "system"
    assert f"{mark}\n{HONEY}" in told["content"]
    assert turn == {"role": "user", "content": "What do bees make?"}
    # The answer cites nothing: it gets the mark of the result that it is about, as one delta.
    pieces = [e.data.delta.content for e in events if e.event == "thread.message.delta"]
    [last] = pieces[-1] or []
    assert last.type == "text"
    assert last.text is not None
    assert (last.text.value, len(last.text.annotations or [])) == (mark, 1)
    message = scene.messages()[-1]
    assert scene.texts()[-1] == f"They make honey from nectar.{mark}"
    [annotation] = annotations(message)
    assert annotation.file_citation.file_id == library.files["honey"]
    # From then on, it is asked without tools at once.
    client.beta.threads.messages.create(scene.thread_id, role="user", content="Where is honey?")
    scene.run()
    assert scene.texts()[-1] == f"Bees keep it in combs{mark}."
    scene.run()
    assert scene.texts()[-1] == "Nobody knows."
    assert len(models.requests(model)) == 4


def test_such_a_model_may_be_told_not_to_search(
    client: openai.OpenAI, models: ModelServer, library: Library
) -> None:
    model = models.script(Answer("Hello."), Answer("Hello."), refuses=no_tools)
    scene = Scene.create(client, model, tools=[SEARCH], tool_resources=library.resources)
    scene.run()
    run = scene.run(tool_choice="none")
    assert [step.type for step in scene.steps(run)] == ["message_creation"]
    assert models.requests(model)[-1]["messages"][0]["content"] == "Hello"
