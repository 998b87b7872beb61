"""Answers from documents, typed: events, steps with and without contents, messages."""

from typing import Any

from assistants.v1 import common_pb2, messages_pb2, models_pb2, runs_pb2

from service.types.include import CONTENTS
from tests.support.grpc.stubs import Stubs, names, whole
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls

TEXT = b"Foxes eat berries, mice and beetles."
MARK = "【1:0†foxes.txt】"
ASK = Calls(("file_search", {"queries": ["What do foxes eat?"]}))
SEARCH = common_pb2.Tool(type="file_search")


def test_a_run(stubs: Stubs, models: ModelServer) -> None:
    file = stubs.upload("foxes.txt", TEXT)
    model = models.script(ASK, Answer(f"Berries{MARK}."))
    assistant = stubs.assistant(model, tools=[SEARCH])
    attached = messages_pb2.Attachment(file_id=file, tools=[{"type": "file_search"}])
    thread = stubs.thread("What do foxes eat?")
    message = messages_pb2.NewMessage(role="user", parts=[{"text": {"value": "And?"}}])
    message.attachments.append(attached)
    request = runs_pb2.CreateRunRequest(
        thread_id=thread.id,
        assistant_id=assistant.id,
        additional_messages=[message],
        include=[CONTENTS],
    )
    events = whole(stubs.runs.StreamRun(request))
    assert names(events)[-1] == "done"
    [delta] = [call for each in events for call in each.run_step_delta.tool_calls]
    assert delta.WhichOneof("tool") == "file_search"
    assert delta.file_search.ranking_options.ranker == "default_2024_08_21"
    assert not delta.file_search.results
    [step] = [
        each.run_step
        for each in events
        if each.event == "thread.run.step.completed"
        and each.run_step.WhichOneof("step_details") == "tool_calls"
    ]
    [call] = step.tool_calls.tool_calls
    [result] = call.file_search.results
    assert call.id == delta.id
    assert (result.file_id, result.file_name) == (file, "foxes.txt")
    assert [content.text.encode() for content in result.content] == [TEXT]
    annotated = [
        part.text for each in events for part in each.message_delta.content if part.text.annotations
    ]
    [piece] = annotated
    [shown] = piece.annotations
    assert (piece.value, shown.index, shown.quote.encode()) == (MARK, 0, TEXT)
    [spoken] = [each.message for each in events if each.event == "thread.message.completed"]
    [part] = spoken.content
    [annotation] = part.text.annotations
    assert annotation == shown.annotation
    assert (annotation.text, annotation.file_citation) == (MARK, file)
    assert part.text.value[annotation.start_index : annotation.end_index] == MARK
    run = events[-2].run
    named: dict[str, Any] = {"thread_id": thread.id, "run_id": run.id}
    get = runs_pb2.GetRunStepRequest(**named, step_id=step.id, include=[CONTENTS])
    assert stubs.runs.GetRunStep(get) == step
    listed = runs_pb2.ListRunStepsRequest(**named, order="asc", include=[CONTENTS])
    assert stubs.runs.ListRunSteps(listed).data[0] == step
    del get.include[:]
    del call.file_search.results[0].content[:]
    assert stubs.runs.GetRunStep(get) == step


def test_models(stubs: Stubs, models: ModelServer) -> None:
    [first, *_] = stubs.models.ListModels(models_pb2.ListModelsRequest()).data
    assert (first.id, first.owned_by) == ("org/scripted", "system")
    assert stubs.models.GetModel(models_pb2.GetModelRequest(model=first.id)) == first
