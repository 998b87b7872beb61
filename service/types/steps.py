"""Run steps. Rows hold `step_details` as answers show them."""

from typing import Any

from assistants.v1 import run_objects_pb2

from service.types import last_error, metadata, tool_calls, usage
from service.types.json_value import Json
from storage.rows import RunStep
from storage.tables import StepStatus

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""What a step shows that has ended, of which the model server counted nothing."""


def to_json(row: RunStep) -> Json:
    """Returns a RunStepObject."""
    ended = row.status != StepStatus.in_progress
    return {
        "id": row.id,
        "object": "thread.run.step",
        "created_at": row.created_at,
        "assistant_id": row.assistant_id,
        "thread_id": row.thread_id,
        "run_id": row.run_id,
        "type": row.type,
        "status": row.status,
        "step_details": row.step_details,
        "last_error": last_error.to_json(row.last_error),
        "expired_at": row.expired_at,
        "cancelled_at": row.cancelled_at,
        "failed_at": row.failed_at,
        "completed_at": row.completed_at,
        "metadata": metadata.to_json(row.metadata_),
        "usage": usage.to_json(row.usage or NO_USAGE) if ended else None,
    }


def to_proto(value: Json) -> run_objects_pb2.RunStep:
    """Returns the same in protobuf."""
    given: dict[str, Any] = value | {
        "last_error": last_error.to_proto(value["last_error"]),
        "usage": usage.to_proto(value["usage"]),
    }
    for key in ("object", "type", "step_details"):
        del given[key]
    result = run_objects_pb2.RunStep(**given)
    details = value["step_details"]
    if value["type"] == "message_creation":
        result.message_creation.message_id = details["message_creation"]["message_id"]
    else:
        result.tool_calls.SetInParent()
        result.tool_calls.tool_calls.extend(map(tool_calls.to_proto, details["tool_calls"]))
    return result
