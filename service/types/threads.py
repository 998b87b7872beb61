"""Threads."""

from service.types import tools
from service.types.values import Json, metadata
from storage.rows import Thread


def to_json(row: Thread) -> Json:
    """Returns a ThreadObject."""
    return {
        "id": row.id,
        "object": "thread",
        "created_at": row.created_at,
        "tool_resources": tools.resources_to_json(row.tool_resources),
        "metadata": metadata(row.metadata_),
    }


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    fields = value | {
        "tool_resources": tools.resources_to_proto(value["tool_resources"]),
        "metadata": value["metadata"] or None,
    }
    del fields["object"]
    return fields
