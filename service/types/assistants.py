"""Assistants."""

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


def to_fields(value: Json, reasoning_effort: str | None) -> Json:
    """Returns the fields of the same in protobuf, with what OpenAI's object has no key for."""
    fields = value | {
        "tools": [tools.to_proto(tool) for tool in value["tools"]],
        "tool_resources": tools.resources_to_proto(value["tool_resources"]),
        "metadata": value["metadata"] or None,
        "response_format": formats.to_proto(value["response_format"]),
        "reasoning_effort": reasoning_effort,
    }
    del fields["object"]
    return fields
