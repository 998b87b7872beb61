"""Messages, with the parts of their content and their attachments.

Rows hold both as answers show them.
"""

from collections.abc import Mapping
from typing import Any

from service.types.values import Json, metadata
from storage.rows import Message


def to_json(row: Message) -> Json:
    """Returns a MessageObject."""
    reason = row.incomplete_reason
    return {
        "id": row.id,
        "object": "thread.message",
        "created_at": row.created_at,
        "thread_id": row.thread_id,
        "status": row.status,
        "incomplete_details": None if reason is None else {"reason": reason},
        "completed_at": row.completed_at,
        "incomplete_at": row.incomplete_at,
        "role": row.role,
        "content": row.content,
        "assistant_id": row.assistant_id,
        "run_id": row.run_id,
        "attachments": row.attachments,
        "metadata": metadata(row.metadata_),
    }


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    fields = value | {
        "content": [_content(part) for part in value["content"]],
        "metadata": value["metadata"] or None,
    }
    del fields["object"]
    return fields


def _content(part: Mapping[str, Any]) -> Json:
    """Returns a part as MessageContent's fields."""
    kind = part["type"]
    if kind == "text" and (annotations := part["text"]["annotations"]):
        shown = [_annotation(annotation) for annotation in annotations]
        return {"text": {"value": part["text"]["value"], "annotations": shown}}
    return {kind: part[kind]}


def _annotation(value: Mapping[str, Any]) -> Json:
    kind = value["type"]
    given = {key: value[key] for key in ("text", "start_index", "end_index")}
    return given | {kind: value[kind]["file_id"]}
