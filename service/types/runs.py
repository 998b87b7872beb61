"""Runs."""

from collections.abc import Mapping
from typing import Any

from service.types import formats, steps, tools
from service.types.assistants import TEMPERATURE, TOP_P
from service.types.values import Json, last_error, metadata, usage
from storage.rows import Run, RunStep
from storage.tables import RunStatus


def to_json(row: Run, pending: RunStep | None = None) -> Json:
    """Returns a RunObject; `pending` is the step whose outputs it awaits, if any."""
    reason = row.incomplete_reason
    return {
        "id": row.id,
        "object": "thread.run",
        "created_at": row.created_at,
        "thread_id": row.thread_id,
        "assistant_id": row.assistant_id,
        "status": row.status,
        "required_action": _required_action(row, pending),
        "last_error": last_error(row.last_error),
        "expires_at": row.expires_at,
        "started_at": row.started_at,
        "cancelled_at": row.cancelled_at,
        "failed_at": row.failed_at,
        "completed_at": row.completed_at,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": row.model,
        "instructions": row.instructions,
        "tools": tools.to_json(row.tools),
        "metadata": metadata(row.metadata_),
        "usage": None if row.usage is None else usage(row.usage),
        "temperature": TEMPERATURE if row.temperature is None else row.temperature,
        "top_p": TOP_P if row.top_p is None else row.top_p,
        "max_prompt_tokens": row.max_prompt_tokens,
        "max_completion_tokens": row.max_completion_tokens,
        "truncation_strategy": row.truncation_strategy,
        "tool_choice": "auto" if row.tool_choice is None else row.tool_choice,
        "parallel_tool_calls": row.parallel_tool_calls is not False,
        "response_format": formats.to_json(row.response_format),
    }


def _required_action(row: Run, pending: RunStep | None) -> Json | None:
    if pending is None or row.status != RunStatus.requires_action:
        return None
    calls = [steps.without_output(call) for call in pending.step_details["tool_calls"]]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}


def to_fields(value: Json, reasoning_effort: str | None) -> Json:
    """Returns the fields of the same in protobuf, with what OpenAI's object has no key for."""
    fields = value | {
        "required_action": _required_action_fields(value["required_action"]),
        "tools": [tools.to_proto(tool) for tool in value["tools"]],
        "metadata": value["metadata"] or None,
        "tool_choice": tools.choice_to_proto(value["tool_choice"]),
        "response_format": formats.to_proto(value["response_format"]),
        "reasoning_effort": reasoning_effort,
    }
    del fields["object"]
    return fields


def _required_action_fields(value: Mapping[str, Any] | None) -> Json | None:
    if value is None:
        return None
    calls = [steps.call_fields(call) for call in value["submit_tool_outputs"]["tool_calls"]]
    return {"submit_tool_outputs": {"tool_calls": calls}}
