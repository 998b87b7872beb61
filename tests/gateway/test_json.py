"""Every message renders to the published schema: empty, and with everything set."""

import json
from typing import Any

import pytest
from assistants.v1 import (
    assistants_pb2,
    common_pb2,
    events_pb2,
    messages_pb2,
    run_objects_pb2,
    runs_pb2,
    threads_pb2,
)
from google.protobuf.message import Message

from gateway.json import render
from service.json_value import struct_from_python
from tests.schemas import validate, validate_response

FUNCTION = common_pb2.Tool(
    type="function",
    function=common_pb2.FunctionDefinition(
        name="f", description="d", parameters=struct_from_python({"z": 1, "a": [2.5, None]})
    ),
)
FILE_SEARCH = common_pb2.Tool(
    type="file_search",
    file_search=common_pb2.FileSearchOptions(
        max_num_results=3, ranking_options=common_pb2.FileSearchOptions.RankingOptions()
    ),
)
RESOURCES = common_pb2.ToolResources(
    code_interpreter=common_pb2.ToolResources.CodeInterpreter(file_ids=["file-1"]),
    file_search=common_pb2.ToolResources.FileSearch(vector_store_ids=["vs_1"]),
)
SCHEMA = common_pb2.ResponseFormat(
    json_schema=common_pb2.ResponseFormat.JsonSchema(
        name="n", description="d", schema=struct_from_python({"type": "object"}), strict=True
    )
)
CALL = run_objects_pb2.FunctionCall(id="call_1", name="f", arguments="{}", output="42")
ERROR = run_objects_pb2.Run.LastError(code="invalid_prompt", message="m")
USAGE = common_pb2.Usage(prompt_tokens=2**53 + 1, completion_tokens=1, total_tokens=2)

ASSISTANT = assistants_pb2.Assistant(
    id="asst_1",
    created_at=1,
    name="n",
    description="d",
    model="m",
    instructions="i",
    tools=[FUNCTION, FILE_SEARCH, common_pb2.Tool(type="code_interpreter")],
    tool_resources=RESOURCES,
    metadata={"a": "b"},
    temperature=0.5,
    top_p=1,
    response_format=SCHEMA,
    reasoning_effort="low",
)
THREAD = threads_pb2.Thread(id="thread_1", created_at=1, tool_resources=RESOURCES)
Content = messages_pb2.MessageContent
ANNOTATED = Content.Text(
    value="t",
    annotations=[
        Content.Annotation(text="t", end_index=1, file_citation="file-1"),
        Content.Annotation(text="t", end_index=1, file_path="file-2"),
    ],
)
EMPTY_MESSAGE = messages_pb2.Message(id="msg_1", status="in_progress", role="assistant")
MESSAGE = messages_pb2.Message(
    id="msg_1",
    status="incomplete",
    role="user",
    incomplete_details=messages_pb2.Message.IncompleteDetails(reason="max_tokens"),
    incomplete_at=3,
    content=[
        Content(text=ANNOTATED),
        Content(image_file=Content.ImageFile(file_id="file-1")),
        Content(image_url=Content.ImageUrl(url="https://example.com/i.png", detail="low")),
        Content(refusal="no"),
    ],
    attachments=[
        messages_pb2.Attachment(
            file_id="file-1", tools=[messages_pb2.AttachmentTool(type="file_search")]
        )
    ],
)
EMPTY_RUN = run_objects_pb2.Run(id="run_1", status="queued")
RUN = run_objects_pb2.Run(
    id="run_1",
    status="requires_action",
    required_action=run_objects_pb2.Run.RequiredAction(
        submit_tool_outputs=run_objects_pb2.Run.SubmitToolOutputs(tool_calls=[CALL])
    ),
    last_error=ERROR,
    incomplete_details=run_objects_pb2.Run.IncompleteDetails(reason="max_prompt_tokens"),
    started_at=2,
    tools=[FUNCTION],
    usage=USAGE,
    temperature=1,
    max_prompt_tokens=256,
    truncation_strategy=common_pb2.TruncationStrategy(type="last_messages", last_messages=2),
    tool_choice=common_pb2.ToolChoice(
        named=common_pb2.ToolChoice.NamedTool(type="function", function_name="f")
    ),
    response_format=common_pb2.ResponseFormat(json_object=common_pb2.ResponseFormat.JsonObject()),
    reasoning_effort="low",
)
MESSAGE_STEP = run_objects_pb2.RunStep(
    id="step_1",
    status="in_progress",
    message_creation=run_objects_pb2.RunStep.MessageCreation(message_id="msg_1"),
)
CALLS_STEP = run_objects_pb2.RunStep(
    id="step_1",
    status="failed",
    tool_calls=run_objects_pb2.RunStep.ToolCalls(
        tool_calls=[CALL, run_objects_pb2.FunctionCall(id="call_2", name="g")]
    ),
    last_error=ERROR,
    usage=USAGE,
)
ContentDelta = events_pb2.MessageDelta.ContentDelta
MESSAGE_DELTA = events_pb2.MessageDelta(
    id="msg_1",
    content=[
        ContentDelta(text=events_pb2.MessageDelta.TextDelta(value="a", first=True)),
        ContentDelta(text=events_pb2.MessageDelta.TextDelta(value="b")),
        ContentDelta(index=1, refusal="no"),
    ],
)
CallDelta = events_pb2.RunStepDelta.FunctionCallDelta
STEP_DELTA = events_pb2.RunStepDelta(
    id="step_1", tool_calls=[CallDelta(id="call_1", name="f"), CallDelta(arguments="{}")]
)

CASES: list[tuple[str, Message]] = [
    ("AssistantObject", assistants_pb2.Assistant()),
    ("AssistantObject", ASSISTANT),
    ("ThreadObject", threads_pb2.Thread()),
    ("ThreadObject", THREAD),
    ("MessageObject", EMPTY_MESSAGE),
    ("MessageObject", MESSAGE),
    ("RunObject", EMPTY_RUN),
    ("RunObject", RUN),
    ("RunStepObject", MESSAGE_STEP),
    ("RunStepObject", CALLS_STEP),
    ("MessageDeltaObject", MESSAGE_DELTA),
    ("RunStepDeltaObject", STEP_DELTA),
    ("ListAssistantsResponse", assistants_pb2.ListAssistantsResponse()),
    ("ListAssistantsResponse", assistants_pb2.ListAssistantsResponse(data=[ASSISTANT])),
    ("ListMessagesResponse", messages_pb2.ListMessagesResponse(data=[MESSAGE], first_id="msg_1")),
    ("ListRunsResponse", runs_pb2.ListRunsResponse(data=[RUN], last_id="run_1", has_more=True)),
    ("ListRunStepsResponse", runs_pb2.ListRunStepsResponse(data=[CALLS_STEP])),
    ("DeleteAssistantResponse", assistants_pb2.DeleteAssistantResponse(id="a", deleted=True)),
    ("DeleteThreadResponse", threads_pb2.DeleteThreadResponse(id="t", deleted=True)),
    ("DeleteMessageResponse", messages_pb2.DeleteMessageResponse(id="m", deleted=True)),
]


LISTS = [
    threads_pb2.ListThreadsResponse(),
    threads_pb2.ListThreadsResponse(data=[THREAD], first_id="thread_1", last_id="thread_1"),
]


def rendered(message: Message) -> Any:
    return json.loads(render(message))


@pytest.mark.parametrize(("schema", "message"), CASES)
def test_renders_as_published(schema: str, message: Message) -> None:
    validate(schema, rendered(message))


@pytest.mark.parametrize("message", LISTS)
def test_renders_our_own_list_like_the_others(message: Message) -> None:
    validate_response("GET", "/threads", rendered(message))


def test_function_parameters_keep_their_order_and_their_integers() -> None:
    text = render(ASSISTANT).decode()
    assert '"parameters":{"z":1,"a":[2.5,null]},"strict":false' in text


def test_integers_are_exact_numbers() -> None:
    assert rendered(RUN)["usage"]["prompt_tokens"] == 2**53 + 1


def test_unions_have_their_short_forms() -> None:
    run = rendered(
        run_objects_pb2.Run(
            status="queued",
            tool_choice=common_pb2.ToolChoice(mode="required"),
            response_format=common_pb2.ResponseFormat(auto=common_pb2.ResponseFormat.Auto()),
        )
    )
    assert (run["tool_choice"], run["response_format"]) == ("required", "auto")


def test_pending_calls_have_no_output_and_those_of_steps_have() -> None:
    (pending,) = rendered(RUN)["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert pending["function"] == {"name": "f", "arguments": "{}"}
    done, open_ = rendered(CALLS_STEP)["step_details"]["tool_calls"]
    assert (done["function"]["output"], open_["function"]["output"]) == ("42", None)


def test_only_the_first_delta_of_a_text_or_call_introduces_it() -> None:
    first, later, _ = rendered(MESSAGE_DELTA)["delta"]["content"]
    assert first["text"] == {"value": "a", "annotations": []}
    assert later["text"] == {"value": "b"}
    first, later = rendered(STEP_DELTA)["delta"]["step_details"]["tool_calls"]
    assert first == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": "", "output": None},
    }
    assert later == {"index": 0, "type": "function", "function": {"arguments": "{}"}}


@pytest.mark.parametrize("change", [{"foo": 1}, {"status": "odd"}, {"tools": [{"type": "x"}]}])
def test_the_schemas_are_strict(change: dict[str, Any]) -> None:
    body = rendered(RUN)
    with pytest.raises(AssertionError):
        validate("RunObject", {**body, **change})
    del body["usage"]
    with pytest.raises(AssertionError, match="usage"):
        validate("RunObject", body)
