"""Run steps. Rows hold `step_details` as answers show them, with all that may be asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.types import last_error, metadata, tool_calls, usage
from service.types.json_value import Json
from storage.rows import RunStep
from storage.tables import StepStatus

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""What a step shows that has ended, of which the model server counted nothing."""


@dataclass(frozen=True, slots=True)
class WithContents:
    """A step of which the texts of search results are shown, too."""

    row: RunStep

    @property
    def id(self) -> str:
        """The step's id."""
        return str(self.row.id)


def to_json(row: RunStep, *, contents: bool = False) -> Json:
    """Returns a RunStepObject, with the `contents` of search results if they are asked for."""
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
        "step_details": row.step_details if contents else _without_contents(row.step_details),
        "last_error": last_error.to_json(row.last_error),
        "expired_at": row.expired_at,
        "cancelled_at": row.cancelled_at,
        "failed_at": row.failed_at,
        "completed_at": row.completed_at,
        "metadata": metadata.to_json(row.metadata_),
        "usage": usage.to_json(row.usage or NO_USAGE) if ended else None,
    }


def _without_contents(details: Mapping[str, Any]) -> Mapping[str, Any]:
    if "tool_calls" not in details:
        return details
    return {**details, "tool_calls": [*map(tool_calls.without_contents, details["tool_calls"])]}


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    details = value["step_details"]
    if value["type"] == "message_creation":
        shown = {"message_creation": details["message_creation"]}
    else:
        shown = {"tool_calls": {"tool_calls": [*map(tool_calls.to_proto, details["tool_calls"])]}}
    fields = value | {"metadata": value["metadata"] or None} | shown
    for key in ("object", "type", "step_details"):
        del fields[key]
    return fields
