"""From stored rows to the messages of the API.

Rows hold JSON in OpenAI's form, as OpenAI's documents name it; this module is the one place that
knows how each part of it is said in protobuf. What nobody chose is null there, or has no key: its
default is filled in here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from assistants.v1 import (
    assistants_pb2,
    common_pb2,
    messages_pb2,
    run_objects_pb2,
    threads_pb2,
)

from service.json_value import struct_from_python
from storage import tables
from storage.pages import Page

TEMPERATURE = TOP_P = 1.0
"""What answers show where nobody chose."""


def assistant(row: tables.Assistant) -> assistants_pb2.Assistant:
    """Returns the assistant of a row."""
    return assistants_pb2.Assistant(
        id=row.id,
        created_at=row.created_at,
        name=row.name,
        description=row.description,
        model=row.model,
        instructions=row.instructions,
        tools=map(tool, row.tools),
        tool_resources=tool_resources(row.tool_resources),
        metadata=row.metadata_,
        temperature=TEMPERATURE if row.temperature is None else row.temperature,
        top_p=TOP_P if row.top_p is None else row.top_p,
        response_format=response_format(row.response_format),
        reasoning_effort=row.reasoning_effort,
    )


def thread(row: tables.Thread) -> threads_pb2.Thread:
    """Returns the thread of a row."""
    return threads_pb2.Thread(
        id=row.id,
        created_at=row.created_at,
        tool_resources=tool_resources(row.tool_resources),
        metadata=row.metadata_,
    )


def message(row: tables.Message) -> messages_pb2.Message:
    """Returns the message of a row."""
    details = None
    if row.incomplete_reason is not None:
        details = messages_pb2.Message.IncompleteDetails(reason=row.incomplete_reason)
    return messages_pb2.Message(
        id=row.id,
        created_at=row.created_at,
        thread_id=row.thread_id,
        status=row.status,
        incomplete_details=details,
        completed_at=row.completed_at,
        incomplete_at=row.incomplete_at,
        role=row.role,
        content=map(content, row.content),
        assistant_id=row.assistant_id,
        run_id=row.run_id,
        attachments=map(attachment, row.attachments),
        metadata=row.metadata_,
    )


def content(part: Mapping[str, Any]) -> messages_pb2.MessageContent:
    """Returns one part of a message, `{"type": "text", "text": {"value", "annotations"}}` etc."""
    match part["type"]:
        case "text":
            return messages_pb2.MessageContent(
                text=messages_pb2.MessageContent.Text(value=part["text"]["value"])
            )
        case "image_url":
            return messages_pb2.MessageContent(
                image_url=messages_pb2.MessageContent.ImageUrl(**part["image_url"])
            )
        case "image_file":
            return messages_pb2.MessageContent(
                image_file=messages_pb2.MessageContent.ImageFile(**part["image_file"])
            )
        case _:
            return messages_pb2.MessageContent(refusal=part["refusal"])


def attachment(value: Mapping[str, Any]) -> messages_pb2.Attachment:
    """Returns a file attached to a message."""
    return messages_pb2.Attachment(
        file_id=value["file_id"],
        tools=[messages_pb2.AttachmentTool(type=item["type"]) for item in value["tools"]],
    )


def run(row: tables.Run, pending: tables.RunStep | None = None) -> run_objects_pb2.Run:
    """Returns the run of a row; `pending` is the step whose outputs it awaits, if any."""
    result = run_objects_pb2.Run(
        id=row.id,
        created_at=row.created_at,
        thread_id=row.thread_id,
        assistant_id=row.assistant_id,
        status=row.status,
        last_error=last_error(row.last_error),
        expires_at=row.expires_at,
        started_at=row.started_at,
        cancelled_at=row.cancelled_at,
        failed_at=row.failed_at,
        completed_at=row.completed_at,
        model=row.model,
        instructions=row.instructions,
        tools=map(tool, row.tools),
        metadata=row.metadata_,
        usage=usage(row.usage),
        temperature=TEMPERATURE if row.temperature is None else row.temperature,
        top_p=TOP_P if row.top_p is None else row.top_p,
        max_prompt_tokens=row.max_prompt_tokens,
        max_completion_tokens=row.max_completion_tokens,
        truncation_strategy=common_pb2.TruncationStrategy(**row.truncation_strategy),
        tool_choice=tool_choice("auto" if row.tool_choice is None else row.tool_choice),
        parallel_tool_calls=row.parallel_tool_calls is not False,
        response_format=response_format(row.response_format),
        reasoning_effort=row.reasoning_effort,
    )
    if row.incomplete_reason is not None:
        result.incomplete_details.MergeFrom(
            run_objects_pb2.Run.IncompleteDetails(reason=row.incomplete_reason)
        )
    if pending is not None and row.status == tables.RunStatus.requires_action:
        calls = function_calls(pending.step_details["tool_calls"])
        result.required_action.submit_tool_outputs.tool_calls.extend(calls)
    return result


def run_step(row: tables.RunStep) -> run_objects_pb2.RunStep:
    """Returns the step of a row."""
    result = run_objects_pb2.RunStep(
        id=row.id,
        created_at=row.created_at,
        assistant_id=row.assistant_id,
        thread_id=row.thread_id,
        run_id=row.run_id,
        status=row.status,
        last_error=last_error(row.last_error),
        expired_at=row.expired_at,
        cancelled_at=row.cancelled_at,
        failed_at=row.failed_at,
        completed_at=row.completed_at,
        metadata=row.metadata_,
    )
    if row.status != tables.StepStatus.in_progress:
        result.usage.MergeFrom(usage(row.usage) or common_pb2.Usage())
    if row.type == "message_creation":
        result.message_creation.message_id = row.step_details["message_creation"]["message_id"]
    else:
        result.tool_calls.SetInParent()
        result.tool_calls.tool_calls.extend(function_calls(row.step_details["tool_calls"]))
    return result


def function_calls(
    calls: Iterable[Mapping[str, Any]],
) -> list[run_objects_pb2.FunctionCall]:
    """Returns the calls of a step."""
    return [
        run_objects_pb2.FunctionCall(
            id=call["id"],
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
            output=call["function"]["output"],
        )
        for call in calls
    ]


def tool(value: Mapping[str, Any]) -> common_pb2.Tool:
    """Returns a tool."""
    result = common_pb2.Tool(type=value["type"])
    if "function" in value:
        function = value["function"]
        result.function.name = function["name"]
        result.function.strict = function.get("strict", False)
        if "description" in function:
            result.function.description = function["description"]
        if "parameters" in function:
            result.function.parameters.CopyFrom(struct_from_python(function["parameters"]))
            result.function.parameters.SetInParent()
    if "file_search" in value:
        options = dict(value["file_search"])
        ranking = options.pop("ranking_options", None)
        result.file_search.CopyFrom(common_pb2.FileSearchOptions(**options))
        result.file_search.SetInParent()
        if ranking is not None:
            result.file_search.ranking_options.CopyFrom(
                common_pb2.FileSearchOptions.RankingOptions(**ranking)
            )
    return result


def tool_resources(value: Mapping[str, Any]) -> common_pb2.ToolResources:
    """Returns tool resources; those that are empty objects stay so."""
    result = common_pb2.ToolResources()
    if "code_interpreter" in value:
        result.code_interpreter.SetInParent()
    if "file_search" in value:
        result.file_search.SetInParent()
    return result


def response_format(value: Any) -> common_pb2.ResponseFormat:
    """Returns a response format from `"auto"` or `{"type": …}`."""
    if value == "auto":
        return common_pb2.ResponseFormat(auto=common_pb2.ResponseFormat.Auto())
    match value["type"]:
        case "text":
            return common_pb2.ResponseFormat(text=common_pb2.ResponseFormat.Text())
        case "json_object":
            return common_pb2.ResponseFormat(json_object=common_pb2.ResponseFormat.JsonObject())
        case _:
            given = dict(value["json_schema"])
            schema = given.pop("schema", None)
            result = common_pb2.ResponseFormat.JsonSchema(**given)
            if schema is not None:
                result.schema.CopyFrom(struct_from_python(schema))
                result.schema.SetInParent()
            return common_pb2.ResponseFormat(json_schema=result)


def tool_choice(value: Any) -> common_pb2.ToolChoice:
    """Returns a tool choice from `"auto"` and the like, or `{"type", "function": {"name"}}`."""
    if isinstance(value, str):
        return common_pb2.ToolChoice(mode=value)
    named = common_pb2.ToolChoice.NamedTool(type=value["type"])
    if "function" in value:
        named.function_name = value["function"]["name"]
    return common_pb2.ToolChoice(named=named)


def usage(value: Mapping[str, int] | None) -> common_pb2.Usage | None:
    """Returns a count of tokens."""
    return None if value is None else common_pb2.Usage(**value)


def last_error(value: Mapping[str, str] | None) -> run_objects_pb2.Run.LastError | None:
    """Returns a run's or a step's last error, `{"code", "message"}`."""
    if value is None:
        return None
    return run_objects_pb2.Run.LastError(code=value["code"], message=value["message"])


def page(rows: Page[Any]) -> dict[str, Any]:
    """Returns what a list response says of its page beside `data`."""
    ends = {"first_id": rows.data[0].id, "last_id": rows.data[-1].id} if rows.data else {}
    return {**ends, "has_more": rows.has_more}
