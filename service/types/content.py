"""Messages in requests: content, as OpenAI's JSON or typed, becomes the parts that are kept."""

import asyncio
from collections.abc import Sequence
from typing import Any

from assistants.json import json_pb2
from assistants.v1 import messages_pb2

from service.errors import ApiError, Kind
from service.types import json_value, validate
from storage.messages import PORTION, NewMessage

DETAILS = ("auto", "low", "high")


def new_message(
    path: str, request: messages_pb2.CreateMessageRequest | messages_pb2.NewMessage
) -> NewMessage:
    """Returns the message to insert; `path` is empty or ends in a dot."""
    return NewMessage(
        role=validate.choice(f"{path}role", request.role, ("user", "assistant")),
        content=_content(f"{path}content", request),
        attachments=_attachments(f"{path}attachments", request.attachments),
        metadata=validate.metadata(f"{path}metadata", request.metadata),
    )


async def new_messages(path: str, given: Sequence[messages_pb2.NewMessage]) -> list[NewMessage]:
    """Returns the messages to insert, in their order. Lets others in between, if they are many."""
    messages = list[NewMessage]()
    for index, message in enumerate(given, 1):
        messages.append(new_message(f"{path}[{index - 1}].", message))
        if index % PORTION == 0:
            await asyncio.sleep(0)
    return messages


def _content(
    param: str, request: messages_pb2.CreateMessageRequest | messages_pb2.NewMessage
) -> list[dict[str, Any]]:
    if request.parts:
        if request.HasField("content"):
            message = "Invalid 'parts': give either 'content' or 'parts', not both."
            raise ApiError(Kind.invalid_value, message, "parts")
        return [_typed_part(f"{param}[{index}]", part) for index, part in enumerate(request.parts)]
    if not request.HasField("content"):
        validate.missing(param)
    return _json_content(param, request.content)


def _json_content(param: str, given: json_pb2.Value) -> list[dict[str, Any]]:
    value = json_value.to_python(given, param)
    if isinstance(value, str):
        return [_text(param, value)]
    if not isinstance(value, list):
        validate.wrong_type(param, "one of a string or an array", value)
    validate.array(param, len(value), minimum=1)
    return [_json_part(f"{param}[{index}]", part) for index, part in enumerate(value)]


def _json_part(param: str, part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        validate.wrong_type(param, "an object", part)
    if "type" not in part:
        validate.missing(f"{param}.type")
    kind = validate.json_text(f"{param}.type", part["type"])
    validate.choice(f"{param}.type", kind, ("text", "image_url", "image_file"))
    validate.json_object(param, part, ("type", kind))
    if kind not in part:
        validate.missing(f"{param}.{kind}")
    if kind == "text":
        return _text(f"{param}.text", validate.json_text(f"{param}.text", part["text"]))
    source = "url" if kind == "image_url" else "file_id"
    image = validate.json_object(f"{param}.{kind}", part[kind], (source, "detail"))
    if source not in image:
        validate.missing(f"{param}.{kind}.{source}")
    address = validate.json_text(f"{param}.{kind}.{source}", image[source], _MAX_URL)
    detail = validate.json_text(f"{param}.{kind}.detail", image.get("detail") or "auto")
    return _image(param, kind, address, detail)


def _typed_part(param: str, part: messages_pb2.MessageContent) -> dict[str, Any]:
    kind = part.WhichOneof("part") or ""
    validate.choice(f"{param}.type", kind, ("text", "image_url", "image_file"))
    if kind == "text":
        return _text(f"{param}.text", part.text.value)
    if kind == "image_url":
        return _image(param, kind, part.image_url.url, part.image_url.detail or "auto")
    return _image(param, kind, part.image_file.file_id, part.image_file.detail or "auto")


_MAX_URL = 20 * 2**20
"""Characters of an image's address: a `data:` URL holds the image itself."""


def _text(param: str, value: str) -> dict[str, Any]:
    text = validate.text(param, value, validate.MAX_TEXT)
    return {"type": "text", "text": {"value": text, "annotations": []}}


def _image(param: str, kind: str, address: str, detail: str) -> dict[str, Any]:
    validate.choice(f"{param}.{kind}.detail", detail, DETAILS)
    if kind == "image_file":
        validate.required_text(f"{param}.image_file.file_id", address, 512)
        validate.no_file(address)
    url = validate.required_text(f"{param}.image_url.url", address, _MAX_URL)
    if not url[:6].lower().startswith(("http:", "https:", "data:")):
        name = f"{param}.image_url.url"
        message = f"Invalid '{name}': expected an http, https or data URL."
        raise ApiError(Kind.invalid_value, message, name)
    return {"type": kind, "image_url": {"url": url, "detail": detail}}


def _attachments(param: str, given: Sequence[messages_pb2.Attachment]) -> list[dict[str, Any]]:
    for index, attachment in enumerate(given):
        name = f"{param}[{index}]"
        for place, tool in enumerate(attachment.tools):
            kinds = ("code_interpreter", "file_search")
            validate.choice(f"{name}.tools[{place}].type", tool.type, kinds)
        validate.required_text(f"{name}.file_id", attachment.file_id, 512)
        validate.no_file(attachment.file_id)
    return []
