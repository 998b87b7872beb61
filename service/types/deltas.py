"""Deltas: pieces of a message's content, and of a step's calls."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.types import content, tool_calls
from service.types.json_value import Json


def text(message_id: str, index: int, text: str, *, first: bool) -> Json:
    """Returns a MessageDeltaObject with a piece of text; the first of a part introduces it."""
    shown: Json = {"value": text, "annotations": []} if first else {"value": text}
    return _message(message_id, {"index": index, "type": "text", "text": shown})


def annotated_text(message_id: str, index: int, text: str, annotations: Sequence[Json]) -> Json:
    """Returns a MessageDeltaObject with a later piece of text, and annotations of that text.

    Each of them has its index among all of the text's.
    """
    shown: Json = {"value": text, "annotations": [*annotations]}
    return _message(message_id, {"index": index, "type": "text", "text": shown})


def refusal(message_id: str, index: int, text: str) -> Json:
    """Returns a MessageDeltaObject with a piece of a refusal."""
    return _message(message_id, {"index": index, "type": "refusal", "refusal": text})


def image_file(message_id: str, index: int, image: Json) -> Json:
    """Returns a MessageDeltaObject with an image."""
    return _message(message_id, {"index": index, "type": "image_file", "image_file": image})


def _message(id: str, part: Json) -> Json:
    return {"id": id, "object": "thread.message.delta", "delta": {"content": [part]}}


def tool_call(step_id: str, piece: Json) -> Json:
    """Returns a RunStepDeltaObject with a piece of a call."""
    details = {"type": "tool_calls", "tool_calls": [piece]}
    return {"id": step_id, "object": "thread.run.step.delta", "delta": {"step_details": details}}


def message_to_fields(value: Json) -> Json:
    """Returns the fields of a MessageDeltaObject in protobuf."""
    return {"id": value["id"], "content": [_part(part) for part in value["delta"]["content"]]}


def _part(part: Mapping[str, Any]) -> Json:
    kind = part["type"]
    shown: Any = _text(part["text"]) if kind == "text" else part[kind]
    return {"index": part["index"], kind: shown}


def _text(text: Mapping[str, Any]) -> Json:
    annotations = text.get("annotations", [])
    return {
        "value": text["value"],
        "first": text.get("annotations") == [],
        "annotations": [
            {
                "index": each["index"],
                "annotation": content.annotation_to_proto(each),
                "quote": each[each["type"]].get("quote"),
            }
            for each in annotations
        ],
    }


def step_to_fields(value: Json) -> Json:
    """Returns the fields of a RunStepDeltaObject in protobuf."""
    pieces = value["delta"]["step_details"]["tool_calls"]
    return {"id": value["id"], "tool_calls": [*map(tool_calls.piece_to_proto, pieces)]}
