"""Messages: what requests for them say, and how they are shown."""

import asyncio
from collections.abc import Sequence

from assistants.v1 import messages_pb2

from service.types import attachments, checks, content, metadata
from service.types.json_value import Json
from service.types.requests import Field
from storage.messages import PORTION, NewMessage
from storage.rows import Message

ROLES = ("user", "assistant")

MODIFIABLE: tuple[Field, ...] = (metadata.FIELD,)
"""The fields of a message that a caller may modify."""


def parse(
    path: str, request: messages_pb2.CreateMessageRequest | messages_pb2.NewMessage
) -> NewMessage:
    """Returns the message to insert; `path` is empty or ends in a dot."""
    return NewMessage(
        role=checks.choice(f"{path}role", request.role, ROLES),
        content=content.parse(f"{path}content", request),
        attachments=attachments.parse(f"{path}attachments", request.attachments),
        metadata=metadata.parse(f"{path}metadata", request.metadata),
    )


async def parse_all(param: str, given: Sequence[messages_pb2.NewMessage]) -> list[NewMessage]:
    """Returns the messages to insert, in their order; yields to other tasks now and then."""
    messages = list[NewMessage]()
    for index, message in enumerate(given, 1):
        messages.append(parse(f"{param}[{index - 1}].", message))
        if index % PORTION == 0:
            await asyncio.sleep(0)
    return messages


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
        "metadata": metadata.to_json(row.metadata_),
    }


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    fields = value | {
        "content": content.to_proto(value["content"]),
        "metadata": value["metadata"] or None,
    }
    del fields["object"]
    return fields
