"""Deltas: pieces of a message's text, of a refusal, and of function calls."""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import events_pb2

from service.types.json_value import Json


def text(message_id: str, index: int, text: str, *, first: bool) -> Json:
    """Returns a MessageDeltaObject with a piece of text; the first of a part introduces it."""
    shown: Json = {"value": text, "annotations": []} if first else {"value": text}
    return _message(message_id, {"index": index, "type": "text", "text": shown})


def refusal(message_id: str, index: int, text: str) -> Json:
    """Returns a MessageDeltaObject with a piece of a refusal."""
    return _message(message_id, {"index": index, "type": "refusal", "refusal": text})


def _message(id: str, part: Json) -> Json:
    return {"id": id, "object": "thread.message.delta", "delta": {"content": [part]}}


def call_begun(step_id: str, index: int, call_id: str, name: str) -> Json:
    """Returns a RunStepDeltaObject that introduces a function call.

    Clients concatenate the strings of all deltas: id and name come once, here.
    """
    function = {"name": name, "arguments": "", "output": None}
    call = {"index": index, "id": call_id, "type": "function", "function": function}
    return _step(step_id, call)


def call_arguments(step_id: str, index: int, arguments: str) -> Json:
    """Returns a RunStepDeltaObject with a piece of a call's arguments."""
    call = {"index": index, "type": "function", "function": {"arguments": arguments}}
    return _step(step_id, call)


def _step(id: str, call: Json) -> Json:
    details = {"type": "tool_calls", "tool_calls": [call]}
    return {"id": id, "object": "thread.run.step.delta", "delta": {"step_details": details}}


def message_to_proto(value: Json) -> events_pb2.MessageDelta:
    """Returns a MessageDeltaObject in protobuf."""
    content = [_part(part) for part in value["delta"]["content"]]
    return events_pb2.MessageDelta(id=value["id"], content=content)


def _part(part: Mapping[str, Any]) -> events_pb2.MessageDelta.ContentDelta:
    if part["type"] == "refusal":
        return events_pb2.MessageDelta.ContentDelta(index=part["index"], refusal=part["refusal"])
    text = part["text"]
    shown = events_pb2.MessageDelta.TextDelta(value=text["value"], first="annotations" in text)
    return events_pb2.MessageDelta.ContentDelta(index=part["index"], text=shown)


def step_to_proto(value: Json) -> events_pb2.RunStepDelta:
    """Returns a RunStepDeltaObject in protobuf."""
    calls = [_call(call) for call in value["delta"]["step_details"]["tool_calls"]]
    return events_pb2.RunStepDelta(id=value["id"], tool_calls=calls)


def _call(call: Mapping[str, Any]) -> events_pb2.RunStepDelta.FunctionCallDelta:
    function = call["function"]
    return events_pb2.RunStepDelta.FunctionCallDelta(
        index=call["index"],
        id=call.get("id"),
        name=function.get("name"),
        arguments=function["arguments"],
    )
