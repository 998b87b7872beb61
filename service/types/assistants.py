"""Assistants."""

from typing import Any

from assistants.v1 import assistants_pb2

from service.types import formats, tools
from service.types.values import Json, metadata
from storage.rows import Assistant

TEMPERATURE = TOP_P = 1.0
"""What answers show where nobody chose."""


def to_json(row: Assistant) -> Json:
    """Returns an AssistantObject."""
    return {
        "id": row.id,
        "object": "assistant",
        "created_at": row.created_at,
        "name": row.name,
        "description": row.description,
        "model": row.model,
        "instructions": row.instructions,
        "tools": tools.to_json(row.tools),
        "tool_resources": tools.resources_to_json(row.tool_resources),
        "metadata": metadata(row.metadata_),
        "temperature": TEMPERATURE if row.temperature is None else row.temperature,
        "top_p": TOP_P if row.top_p is None else row.top_p,
        "response_format": formats.to_json(row.response_format),
    }


def to_proto(value: Json, reasoning_effort: str | None) -> assistants_pb2.Assistant:
    """Returns the same, with what OpenAI's object has no key for."""
    given: dict[str, Any] = value | {
        "tools": map(tools.to_proto, value["tools"]),
        "tool_resources": tools.resources_to_proto(value["tool_resources"]),
        "response_format": formats.to_proto(value["response_format"]),
    }
    del given["object"]
    return assistants_pb2.Assistant(**given, reasoning_effort=reasoning_effort)
