"""Assistants: what requests for them say, and how they are shown."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from service.types import (
    checks,
    metadata,
    reasoning_effort,
    response_format,
    sampling,
    tool_resources,
    tools,
)
from service.types.json_value import Json
from service.types.requests import Field
from storage.rows import Assistant

FIELDS: tuple[Field, ...] = (
    Field("model", partial(checks.required_text, maximum=256), required=True),
    Field("name", partial(checks.text, maximum=256)),
    Field("description", partial(checks.text, maximum=512)),
    Field("instructions", partial(checks.text, maximum=checks.MAX_TEXT)),
    Field("reasoning_effort", reasoning_effort.parse),
    Field("tools", partial(tools.parse, maximum=128), default=[]),
    tool_resources.FIELD,
    metadata.FIELD,
    Field("temperature", sampling.parse_temperature),
    Field("top_p", sampling.parse_top_p),
    Field("response_format", response_format.parse, default=response_format.AUTO),
)
"""What a caller may write of a new assistant, in the order of checking."""

MODIFIABLE: tuple[Field, ...] = tuple(
    tool_resources.MODIFIED if field is tool_resources.FIELD else field for field in FIELDS
)
"""What a caller may modify."""


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
        "tool_resources": tool_resources.to_json(row.tool_resources),
        "metadata": metadata.to_json(row.metadata_),
        "temperature": sampling.to_json(row.temperature),
        "top_p": sampling.to_json(row.top_p),
        "response_format": response_format.to_json(row.response_format),
    }


def extensions(row: Assistant) -> Json:
    """Returns the fields that only protobuf shows: OpenAI's object has no key for them."""
    return {"reasoning_effort": row.reasoning_effort}


def to_fields(value: Json, extensions: Mapping[str, Any]) -> Json:
    """Returns the fields of the same in protobuf, with its extensions."""
    fields = {
        **value,
        **extensions,
        "tools": tools.to_proto(value["tools"]),
        "tool_resources": tool_resources.to_proto(value["tool_resources"]),
        "metadata": value["metadata"] or None,
        "response_format": response_format.to_proto(value["response_format"]),
    }
    del fields["object"]
    return fields
