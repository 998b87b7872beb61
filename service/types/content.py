"""Content of messages: OpenAI's JSON or typed parts in requests, and the parts that are stored.

Answers show the stored form.
"""

from collections.abc import Mapping
from typing import Any

from assistants.json import json_pb2
from assistants.v1 import messages_pb2

from service.errors import ApiError, Kind
from service.types import checks, json_value
from service.types.json_value import Json

KINDS = ("text", "image_url", "image_file")
DETAILS = ("auto", "low", "high")
MAX_URL = 20 * 2**20
"""Characters of an image's address: a `data:` URL holds the image itself."""


def parse(
    param: str, request: messages_pb2.CreateMessageRequest | messages_pb2.NewMessage
) -> list[Json]:
    """Returns the parts of a message, which is given its `content` or its `parts`."""
    if request.parts:
        if request.HasField("content"):
            message = "Invalid 'parts': give either 'content' or 'parts', not both."
            raise ApiError(Kind.invalid_value, message, "parts")
        return [_typed_part(f"{param}[{index}]", part) for index, part in enumerate(request.parts)]
    if not request.HasField("content"):
        checks.missing(param)
    return _json_content(param, request.content)


def _json_content(param: str, given: json_pb2.Value) -> list[Json]:
    value = json_value.to_python(given, param)
    if isinstance(value, str):
        return [_text(param, value)]
    if not isinstance(value, list):
        checks.wrong_type(param, "one of a string or an array", value)
    checks.array(param, len(value), minimum=1)
    return [_json_part(f"{param}[{index}]", part) for index, part in enumerate(value)]


def _json_part(param: str, part: Any) -> Json:
    if not isinstance(part, dict):
        checks.wrong_type(param, "an object", part)
    kind = checks.kind(param, part, KINDS)
    checks.json_object(param, part, ("type", kind))
    name, given = f"{param}.{kind}", checks.member(param, part, kind)
    if kind == "text":
        return _text(name, checks.json_text(name, given))
    source = "url" if kind == "image_url" else "file_id"
    image = checks.json_object(name, given, (source, "detail"))
    address = checks.json_text(f"{name}.{source}", checks.member(name, image, source), MAX_URL)
    detail = checks.json_text(f"{name}.detail", image.get("detail") or "auto")
    return _image(param, kind, address, detail)


def _typed_part(param: str, part: messages_pb2.MessageContent) -> Json:
    kind = part.WhichOneof("part") or ""
    checks.choice(f"{param}.type", kind, KINDS)
    if kind == "text":
        return _text(f"{param}.text", part.text.value)
    if kind == "image_url":
        return _image(param, kind, part.image_url.url, part.image_url.detail or "auto")
    return _image(param, kind, part.image_file.file_id, part.image_file.detail or "auto")


def _text(param: str, value: str) -> Json:
    text = checks.text(param, value, checks.MAX_TEXT)
    return {"type": "text", "text": {"value": text, "annotations": []}}


def _image(param: str, kind: str, address: str, detail: str) -> Json:
    checks.choice(f"{param}.{kind}.detail", detail, DETAILS)
    if kind == "image_file":
        file_id = checks.object_id(f"{param}.image_file.file_id", address, "file")
        return {"type": kind, "image_file": {"file_id": file_id, "detail": detail}}
    url = checks.required_text(f"{param}.image_url.url", address, MAX_URL)
    if not url[:6].lower().startswith(("http:", "https:", "data:")):
        name = f"{param}.image_url.url"
        message = f"Invalid '{name}': expected an http, https or data URL."
        raise ApiError(Kind.invalid_value, message, name)
    return {"type": kind, "image_url": {"url": url, "detail": detail}}


def to_proto(value: list[Json]) -> list[Json]:
    """Returns the same as fields of MessageContent."""
    return [_part_to_proto(part) for part in value]


def _part_to_proto(part: Mapping[str, Any]) -> Json:
    kind = part["type"]
    if kind == "text" and (annotations := part["text"]["annotations"]):
        shown = [annotation_to_proto(annotation) for annotation in annotations]
        return {"text": {"value": part["text"]["value"], "annotations": shown}}
    return {kind: part[kind]}


def image_file(file_id: str) -> Json:
    """Returns a part with an image that the server has made."""
    return {"type": "image_file", "image_file": {"file_id": file_id}}


def annotation_in_message(delta: Mapping[str, Any]) -> Json:
    """Returns an annotation of a delta as messages have it, which is without index and quote."""
    kind = delta["type"]
    return {
        "type": kind,
        "text": delta["text"],
        "start_index": delta["start_index"],
        "end_index": delta["end_index"],
        kind: {"file_id": delta[kind]["file_id"]},
    }


def annotation_to_proto(value: Mapping[str, Any]) -> Json:
    """Returns an annotation as fields of Annotation."""
    kind = value["type"]
    given = {key: value[key] for key in ("text", "start_index", "end_index")}
    return given | {kind: value[kind]["file_id"]}
