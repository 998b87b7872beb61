"""What the child may say: its frames, checked like any hostile input."""

import base64
import binascii
from dataclasses import dataclass

import orjson

from service.sandbox.inside.worker import SIGNATURES
from service.sandbox.port import Error, Image, Text


class BadFrame(Exception):
    """The child sent something else than a frame."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker takes calls."""


@dataclass(frozen=True, slots=True)
class Done:
    """A call has ended."""

    id: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request about files brought."""

    id: int
    value: object
    """Whatever JSON holds, unchecked."""


Frame = Ready | Text | Image | Error | Done | Answer

FIELDS: dict[str, dict[str, type]] = {
    "ready": {},
    "text": {"text": str},
    "image": {"mime": str, "data": str},
    "error": {"name": str, "value": str, "traceback": str},
    "end": {"id": int},
    "answer": {"id": int, "value": object},
}
"""The fields of each type of frame: exactly these, of exactly these types."""


def parse(line: bytes) -> Frame:
    """Returns the frame that a line holds. Raises BadFrame."""
    try:
        frame = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadFrame("no JSON") from None
    if not isinstance(frame, dict) or not isinstance(kind := frame.pop("type", None), str):
        raise BadFrame("no type")
    fields = FIELDS.get(kind)
    if fields is None or fields.keys() != frame.keys():
        raise BadFrame("unknown type or fields")
    for name, expected in fields.items():
        # bool is an int for isinstance.
        if expected is not object and type(frame[name]) is not expected:
            raise BadFrame(f"{name} has another type")
    match kind:
        case "ready":
            return Ready()
        case "text":
            return Text(_clean(frame["text"]))
        case "image":
            return _image(frame["mime"], frame["data"])
        case "error":
            fields_ = (frame["name"], frame["value"], frame["traceback"])
            return Error(*map(_clean, fields_))
        case "end":
            return Done(frame["id"])
        case _:
            return Answer(frame["id"], frame["value"])


def _clean(text: str) -> str:
    """Returns a text without what a database cannot hold."""
    return text.replace("\x00", "\ufffd")


def _image(mime: str, data: str) -> Image:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadFrame("no base64") from None
    if mime not in SIGNATURES or not content.startswith(SIGNATURES[mime]):
        raise BadFrame("no image")
    return Image(mime, content)
