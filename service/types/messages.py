"""Messages, with the parts of their content and their attachments.

Rows hold both as answers show them.
"""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import messages_pb2

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


def to_proto(value: Json) -> messages_pb2.Message:
    """Returns the same in protobuf."""
    return messages_pb2.Message(
        id=value["id"],
        created_at=value["created_at"],
        thread_id=value["thread_id"],
        status=value["status"],
        incomplete_details=value["incomplete_details"],
        completed_at=value["completed_at"],
        incomplete_at=value["incomplete_at"],
        role=value["role"],
        content=[_content(part) for part in value["content"]],
        assistant_id=value["assistant_id"],
        run_id=value["run_id"],
        attachments=value["attachments"],
        metadata=value["metadata"],
    )


def _content(part: Mapping[str, Any]) -> Json:
    """Returns a part as MessageContent's fields."""
    kind = part["type"]
    if kind == "text" and (annotations := part["text"]["annotations"]):
        shown = [annotation_to_proto(annotation) for annotation in annotations]
        return {"text": {"value": part["text"]["value"], "annotations": shown}}
    return {kind: part[kind]}


def annotation_to_proto(value: Mapping[str, Any]) -> Json:
    """Returns an annotation as Annotation's fields."""
    kind = value["type"]
    given = {key: value[key] for key in ("text", "start_index", "end_index")}
    return given | {kind: value[kind]["file_id"]}
