"""Values that several messages share, read as OpenAI's JSON: tools, formats, content, usage.

Each function takes a message of `assistants.v1` and returns Python's JSON types in OpenAI's form.
"""

from typing import Any

from assistants.v1 import common_pb2, messages_pb2, run_objects_pb2
from google.protobuf.message import Message

from service.types.json_value import struct_to_python

Json = dict[str, Any]


def optional(message: Message, field: str) -> Any:
    """Returns a field's value, or None where it is not set."""
    return getattr(message, field) if message.HasField(field) else None


def metadata(values: Any) -> Json:
    """Returns metadata with its keys sorted: protobuf's maps have no order of their own."""
    return dict(sorted(values.items()))


def tool(value: common_pb2.Tool) -> Json:
    """Returns `{"type"}` with what belongs to the type under its name."""
    result: Json = {"type": value.type}
    if value.HasField("function"):
        result["function"] = function(value.function)
    if value.HasField("file_search"):
        result["file_search"] = file_search(value.file_search)
    return result


def function(value: common_pb2.FunctionDefinition) -> Json:
    """Returns a function's definition; `strict` is always there."""
    result: Json = {"name": value.name}
    if value.HasField("description"):
        result["description"] = value.description
    if value.HasField("parameters"):
        result["parameters"] = struct_to_python(value.parameters, "parameters")
    result["strict"] = value.strict
    return result


def file_search(value: common_pb2.FileSearchOptions) -> Json:
    """Returns the options that are set."""
    result: Json = {}
    if value.HasField("max_num_results"):
        result["max_num_results"] = value.max_num_results
    if value.HasField("ranking_options"):
        ranking = value.ranking_options
        result["ranking_options"] = {
            "ranker": ranking.ranker or "auto",
            "score_threshold": ranking.score_threshold,
        }
    return result


def tool_resources(value: common_pb2.ToolResources) -> Json:
    """Returns the resources that are there, `{}` for none."""
    result: Json = {}
    if value.HasField("code_interpreter"):
        result["code_interpreter"] = {"file_ids": list(value.code_interpreter.file_ids)}
    if value.HasField("file_search"):
        stores = list(value.file_search.vector_store_ids)
        result["file_search"] = {"vector_store_ids": stores}
    return result


def response_format(value: common_pb2.ResponseFormat) -> str | Json:
    """Returns `"auto"` or `{"type": …}`."""
    match value.WhichOneof("format"):
        case "text" | "json_object" as form:
            return {"type": form}
        case "json_schema":
            return {"type": "json_schema", "json_schema": json_schema(value.json_schema)}
        case _:
            return "auto"


def json_schema(value: common_pb2.ResponseFormat.JsonSchema) -> Json:
    """Returns a named schema; what was not given is left out."""
    result: Json = {"name": value.name}
    if value.HasField("description"):
        result["description"] = value.description
    if value.HasField("schema"):
        result["schema"] = struct_to_python(value.schema, "schema")
    if value.HasField("strict"):
        result["strict"] = value.strict
    return result


def tool_choice(value: common_pb2.ToolChoice) -> str | Json:
    """Returns a mode such as `"auto"`, or the named tool."""
    if value.WhichOneof("choice") != "named":
        return value.mode or "auto"
    result: Json = {"type": value.named.type}
    if value.named.type == "function":
        result["function"] = {"name": value.named.function_name}
    return result


def truncation_strategy(value: common_pb2.TruncationStrategy) -> Json:
    """Returns `{"type", "last_messages"}`."""
    return {"type": value.type or "auto", "last_messages": optional(value, "last_messages")}


def usage(value: common_pb2.Usage) -> Json:
    """Returns the three counts."""
    return {
        "prompt_tokens": value.prompt_tokens,
        "completion_tokens": value.completion_tokens,
        "total_tokens": value.total_tokens,
    }


def error(value: common_pb2.Error) -> Json:
    """Returns the four keys of an error."""
    return {
        "message": value.message,
        "type": value.type,
        "param": optional(value, "param"),
        "code": optional(value, "code"),
    }


def content(part: messages_pb2.MessageContent) -> Json:
    """Returns one part of a message."""
    match part.WhichOneof("part"):
        case "image_file":
            return image_file(part.image_file)
        case "image_url":
            image = {"url": part.image_url.url, "detail": part.image_url.detail or "auto"}
            return {"type": "image_url", "image_url": image}
        case "refusal":
            return {"type": "refusal", "refusal": part.refusal}
        case _:
            annotations = [annotation(item) for item in part.text.annotations]
            return {"type": "text", "text": {"value": part.text.value, "annotations": annotations}}


def image_file(value: messages_pb2.MessageContent.ImageFile) -> Json:
    """Returns an uploaded image, or one that code has made, which has no detail."""
    detail = {"detail": value.detail} if value.detail else {}
    return {"type": "image_file", "image_file": {"file_id": value.file_id, **detail}}


def annotation(value: messages_pb2.MessageContent.Annotation) -> Json:
    """Returns a citation, or the path of a file that was made."""
    target = value.WhichOneof("target") or "file_citation"
    return {
        "type": target,
        "text": value.text,
        target: {"file_id": getattr(value, target)},
        "start_index": value.start_index,
        "end_index": value.end_index,
    }


def attachment(value: messages_pb2.Attachment) -> Json:
    """Returns a file with the tools that may use it."""
    return {"file_id": value.file_id, "tools": [{"type": item.type} for item in value.tools]}


def pending_call(value: run_objects_pb2.ToolCall) -> Json:
    """Returns a call as a run's `required_action` lists it."""
    named = {"name": value.function.name, "arguments": value.function.arguments}
    return {"id": value.id, "type": "function", "function": named}


def step_call(value: run_objects_pb2.ToolCall) -> Json:
    """Returns a call as a step lists it: with its output, null until there is one."""
    match value.WhichOneof("tool"):
        case "function":
            result = pending_call(value)
            result["function"]["output"] = optional(value.function, "output")
            return result
        case "file_search":
            shown = file_search_call(value.file_search)
            return {"id": value.id, "type": "file_search", "file_search": shown}
        case _:
            outputs = [code_output(each) for each in value.code_interpreter.outputs]
            shown = {"input": value.code_interpreter.input, "outputs": outputs}
            return {"id": value.id, "type": "code_interpreter", "code_interpreter": shown}


def file_search_call(value: run_objects_pb2.ToolCall.FileSearch) -> Json:
    """Returns what a search has found; nothing before it has been made."""
    if not value.HasField("ranking_options"):
        return {}
    ranking = value.ranking_options
    results = []
    for each in value.results:
        result = {"file_id": each.file_id, "file_name": each.file_name, "score": each.score}
        if each.content:
            result["content"] = [{"type": "text", "text": item.text} for item in each.content]
        results.append(result)
    return {
        "ranking_options": {"ranker": ranking.ranker, "score_threshold": ranking.score_threshold},
        "results": results,
    }


def code_output(value: Any) -> Json:
    """Returns an output of code, or a piece of one."""
    if value.WhichOneof("output") == "logs":
        return {"type": "logs", "logs": value.logs}
    return {"type": "image", "image": {"file_id": value.image.file_id}}
