"""Writes a run's events as server-sent events, as OpenAI's API does."""

import orjson
from assistants.v1 import common_pb2, events_pb2

from gateway import json, values

CONTENT_TYPE = "text/event-stream"

KEEP_ALIVE = b": keep-alive\n"
"""A comment. No blank line follows, of which the official clients would make an empty event."""


def encode(event: events_pb2.RunEvent, *, with_id: bool = False) -> bytes:
    """Returns one event: `event: NAME`, `data: JSON`, and the blank line that ends it.

    With its number as `id: NUMBER` before them, if asked for.
    """
    line = b"id: %d\n" % event.sequence_number if with_id else b""
    return line + _encode(event)


def _encode(event: events_pb2.RunEvent) -> bytes:
    match event.WhichOneof("data"):
        case None | "done":
            return b"event: done\ndata: [DONE]\n\n"
        case "error":
            return error(event.error)
        case field:
            return _event(event.event, json.render(getattr(event, field)))


def error(value: common_pb2.Error) -> bytes:
    """Returns the event that ends a stream which cannot go on.

    Its data has the error's four keys flat, as documented, and once more under `error`: the
    official Python client raises on the latter only.
    """
    body = values.error(value)
    return _event("error", orjson.dumps({**body, "error": body}))


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
