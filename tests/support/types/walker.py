"""Reads OpenAI's JSON back out of the messages of `assistants.v1`, without help of the server.

What answers and events say in protobuf is compared with what they say in JSON by it. `render` is
the way in: it finds the function for a message by its type.
"""

from collections.abc import Callable
from typing import Any

import orjson
from assistants.v1 import (
    assistants_pb2,
    events_pb2,
    messages_pb2,
    run_objects_pb2,
    runs_pb2,
    threads_pb2,
)
from google.protobuf.message import Message

from tests.support.types import file_walker, upload_walker
from tests.support.types import walker_values as values
from tests.support.types.walker_values import Json, optional


def render(message: Message) -> bytes:
    """Returns the JSON text, in UTF-8, of an answer or of an event's payload."""
    return orjson.dumps(_RENDERERS[message.DESCRIPTOR.full_name](message))


def assistant(value: assistants_pb2.Assistant) -> Json:
    """Returns an AssistantObject."""
    return {
        "id": value.id,
        "object": "assistant",
        "created_at": value.created_at,
        "name": optional(value, "name"),
        "description": optional(value, "description"),
        "model": value.model,
        "instructions": optional(value, "instructions"),
        "tools": [values.tool(item) for item in value.tools],
        "tool_resources": values.tool_resources(value.tool_resources),
        "metadata": values.metadata(value.metadata),
        "temperature": optional(value, "temperature"),
        "top_p": optional(value, "top_p"),
        "response_format": values.response_format(value.response_format),
    }


def thread(value: threads_pb2.Thread) -> Json:
    """Returns a ThreadObject."""
    return {
        "id": value.id,
        "object": "thread",
        "created_at": value.created_at,
        "tool_resources": values.tool_resources(value.tool_resources),
        "metadata": values.metadata(value.metadata),
    }


def message(value: messages_pb2.Message) -> Json:
    """Returns a MessageObject."""
    details = None
    if value.HasField("incomplete_details"):
        reason = value.incomplete_details.reason
        details = {"reason": messages_pb2.Message.IncompleteDetails.Reason.Name(reason)}
    return {
        "id": value.id,
        "object": "thread.message",
        "created_at": value.created_at,
        "thread_id": value.thread_id,
        "status": messages_pb2.Message.Status.Name(value.status),
        "incomplete_details": details,
        "completed_at": optional(value, "completed_at"),
        "incomplete_at": optional(value, "incomplete_at"),
        "role": messages_pb2.Message.Role.Name(value.role),
        "content": [values.content(part) for part in value.content],
        "assistant_id": optional(value, "assistant_id"),
        "run_id": optional(value, "run_id"),
        "attachments": [values.attachment(item) for item in value.attachments],
        "metadata": values.metadata(value.metadata),
    }


def run(value: run_objects_pb2.Run) -> Json:
    """Returns a RunObject."""
    return {
        "id": value.id,
        "object": "thread.run",
        "created_at": value.created_at,
        "thread_id": value.thread_id,
        "assistant_id": value.assistant_id,
        "status": run_objects_pb2.Run.Status.Name(value.status),
        "required_action": _required_action(value),
        "last_error": last_error(value.last_error) if value.HasField("last_error") else None,
        "expires_at": optional(value, "expires_at"),
        "started_at": optional(value, "started_at"),
        "cancelled_at": optional(value, "cancelled_at"),
        "failed_at": optional(value, "failed_at"),
        "completed_at": optional(value, "completed_at"),
        "incomplete_details": _incomplete_run(value),
        "model": value.model,
        "instructions": value.instructions,
        "tools": [values.tool(item) for item in value.tools],
        "metadata": values.metadata(value.metadata),
        "usage": values.usage(value.usage) if value.HasField("usage") else None,
        "temperature": optional(value, "temperature"),
        "top_p": optional(value, "top_p"),
        "max_prompt_tokens": optional(value, "max_prompt_tokens"),
        "max_completion_tokens": optional(value, "max_completion_tokens"),
        "truncation_strategy": values.truncation_strategy(value.truncation_strategy),
        "tool_choice": values.tool_choice(value.tool_choice),
        "parallel_tool_calls": value.parallel_tool_calls,
        "response_format": values.response_format(value.response_format),
    }


def _required_action(value: run_objects_pb2.Run) -> Json | None:
    if not value.HasField("required_action"):
        return None
    calls = value.required_action.submit_tool_outputs.tool_calls
    return {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {"tool_calls": [values.pending_call(call) for call in calls]},
    }


def last_error(value: run_objects_pb2.Run.LastError) -> Json:
    """Returns a run's error."""
    return {"code": run_objects_pb2.Run.LastError.Code.Name(value.code), "message": value.message}


def _incomplete_run(value: run_objects_pb2.Run) -> Json | None:
    if not value.HasField("incomplete_details"):
        return None
    reason = value.incomplete_details.reason
    return {"reason": run_objects_pb2.Run.IncompleteDetails.Reason.Name(reason)}


def run_step(value: run_objects_pb2.RunStep) -> Json:
    """Returns a RunStepObject."""
    details = _step_details(value)
    return {
        "id": value.id,
        "object": "thread.run.step",
        "created_at": value.created_at,
        "assistant_id": value.assistant_id,
        "thread_id": value.thread_id,
        "run_id": value.run_id,
        "type": details["type"],
        "status": run_objects_pb2.RunStep.Status.Name(value.status),
        "step_details": details,
        "last_error": _step_error(value),
        "expired_at": optional(value, "expired_at"),
        "cancelled_at": optional(value, "cancelled_at"),
        "failed_at": optional(value, "failed_at"),
        "completed_at": optional(value, "completed_at"),
        "metadata": values.metadata(value.metadata),
        "usage": values.usage(value.usage) if value.HasField("usage") else None,
    }


def _step_details(value: run_objects_pb2.RunStep) -> Json:
    if value.WhichOneof("step_details") == "tool_calls":
        calls = [values.step_call(call) for call in value.tool_calls.tool_calls]
        return {"type": "tool_calls", "tool_calls": calls}
    created = {"message_id": value.message_creation.message_id}
    return {"type": "message_creation", "message_creation": created}


def _step_error(value: run_objects_pb2.RunStep) -> Json | None:
    if not value.HasField("last_error"):
        return None
    # A step knows two codes only; a run's third, `invalid_prompt`, has no place in it.
    limited = value.last_error.code == run_objects_pb2.Run.LastError.Code.rate_limit_exceeded
    code = "rate_limit_exceeded" if limited else "server_error"
    return {"code": code, "message": value.last_error.message}


def message_delta(value: events_pb2.MessageDelta) -> Json:
    """Returns a MessageDeltaObject."""
    content = [_content_delta(part) for part in value.content]
    return {"id": value.id, "object": "thread.message.delta", "delta": {"content": content}}


def _content_delta(part: events_pb2.MessageDelta.ContentDelta) -> Json:
    kind = part.WhichOneof("part")
    if kind == "refusal":
        return {"index": part.index, "type": "refusal", "refusal": part.refusal}
    if kind == "image_file":
        return {"index": part.index, **values.image_file(part.image_file)}
    text: Json = {"value": part.text.value}
    if part.text.first or part.text.annotations:
        text["annotations"] = [*map(_annotation_delta, part.text.annotations)]
    return {"index": part.index, "type": "text", "text": text}


def _annotation_delta(value: events_pb2.MessageDelta.AnnotationDelta) -> Json:
    annotation = values.annotation(value.annotation)
    if value.HasField("quote"):
        annotation["file_citation"]["quote"] = value.quote
    return {"index": value.index, **annotation}


def run_step_delta(value: events_pb2.RunStepDelta) -> Json:
    """Returns a RunStepDeltaObject."""
    calls = [_call_delta(call) for call in value.tool_calls]
    details = {"type": "tool_calls", "tool_calls": calls}
    return {"id": value.id, "object": "thread.run.step.delta", "delta": {"step_details": details}}


def _call_delta(call: events_pb2.RunStepDelta.ToolCallDelta) -> Json:
    # Clients concatenate the strings of all deltas: id and name come once, in the first.
    kind, first = str(call.WhichOneof("tool")), call.HasField("id")
    match kind:
        case "function" if first:
            name, arguments = call.function.name, call.function.arguments
            shown: Json = {"name": name, "arguments": arguments, "output": None}
        case "function":
            shown = {"arguments": call.function.arguments}
        case "file_search":
            shown = values.file_search_call(call.file_search)
        case _:
            shown = _code_delta(call.code_interpreter, first)
    id = {"id": call.id} if first else {}
    return {"index": call.index, **id, "type": kind, kind: shown}


def _code_delta(code: events_pb2.RunStepDelta.CodeInterpreterDelta, first: bool) -> Json:
    shown: Json = {"input": code.input} if code.HasField("input") else {}
    if first or code.outputs:
        shown["outputs"] = [
            {"index": each.index, **values.code_output(each)} for each in code.outputs
        ]
    return shown


def _page(item: Callable[[Any], Json]) -> Callable[[Any], Json]:
    def page(value: Any) -> Json:
        return {
            "object": "list",
            "data": [item(entry) for entry in value.data],
            "first_id": optional(value, "first_id"),
            "last_id": optional(value, "last_id"),
            "has_more": value.has_more,
        }

    return page


def _deletion(object_name: str) -> Callable[[Any], Json]:
    def deletion(value: Any) -> Json:
        return {"id": value.id, "object": object_name, "deleted": value.deleted}

    return deletion


_BY_TYPE: dict[type[Message], Callable[[Any], Json]] = {
    assistants_pb2.Assistant: assistant,
    threads_pb2.Thread: thread,
    messages_pb2.Message: message,
    run_objects_pb2.Run: run,
    run_objects_pb2.RunStep: run_step,
    events_pb2.MessageDelta: message_delta,
    events_pb2.RunStepDelta: run_step_delta,
    assistants_pb2.ListAssistantsResponse: _page(assistant),
    threads_pb2.ListThreadsResponse: _page(thread),
    messages_pb2.ListMessagesResponse: _page(message),
    runs_pb2.ListRunsResponse: _page(run),
    runs_pb2.ListRunStepsResponse: _page(run_step),
    assistants_pb2.DeleteAssistantResponse: _deletion("assistant.deleted"),
    threads_pb2.DeleteThreadResponse: _deletion("thread.deleted"),
    messages_pb2.DeleteMessageResponse: _deletion("thread.message.deleted"),
    **file_walker.OBJECTS,
    **upload_walker.OBJECTS,
    **{
        kind: _page(item)
        for kind, item in [*file_walker.PAGES.items(), *upload_walker.PAGES.items()]
    },
    **{
        kind: _deletion(name)
        for kind, name in [*file_walker.DELETIONS.items(), *upload_walker.DELETIONS.items()]
    },
}

_RENDERERS = {kind.DESCRIPTOR.full_name: renderer for kind, renderer in _BY_TYPE.items()}
