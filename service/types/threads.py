"""Threads."""

from assistants.v1 import threads_pb2

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


def to_proto(value: Json) -> threads_pb2.Thread:
    """Returns the same in protobuf."""
    return threads_pb2.Thread(
        id=value["id"],
        created_at=value["created_at"],
        tool_resources=tools.resources_to_proto(value["tool_resources"]),
        metadata=value["metadata"],
    )
