"""Threads: what requests for them say, and how they are shown."""

from service.types import metadata, tool_resources
from service.types.json_value import Json
from service.types.requests import Field
from storage.rows import Thread

FIELDS: tuple[Field, ...] = (tool_resources.FIELD, metadata.FIELD)
"""What a caller may write of a thread, in the order of checking, but for its first messages."""

MODIFIABLE: tuple[Field, ...] = (tool_resources.MODIFIED, metadata.FIELD)
"""What a caller may modify."""


def to_json(row: Thread) -> Json:
    """Returns a ThreadObject."""
    return {
        "id": row.id,
        "object": "thread",
        "created_at": row.created_at,
        "tool_resources": tool_resources.to_json(row.tool_resources),
        "metadata": metadata.to_json(row.metadata_),
    }


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    fields = value | {
        "tool_resources": tool_resources.to_proto(value["tool_resources"]),
        "metadata": value["metadata"] or None,
    }
    del fields["object"]
    return fields
