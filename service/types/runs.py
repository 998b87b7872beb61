"""Runs."""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import common_pb2, run_objects_pb2

from service.types import formats, tool_calls, tools
from service.types.assistants import TEMPERATURE, TOP_P
from service.types.values import (
    Json,
    last_error,
    last_error_to_proto,
    metadata,
    usage,
    usage_to_proto,
)
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
    calls = pending.step_details["tool_calls"]
    awaited = [tool_calls.without_output(call) for call in calls if call["type"] == "function"]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": awaited}}


def to_proto(value: Json, reasoning_effort: str | None) -> run_objects_pb2.Run:
    """Returns the same, with what OpenAI's object has no key for."""
    given: dict[str, Any] = value | {
        "required_action": _required_action_to_proto(value["required_action"]),
        "last_error": last_error_to_proto(value["last_error"]),
        "tools": map(tools.to_proto, value["tools"]),
        "usage": usage_to_proto(value["usage"]),
        "truncation_strategy": common_pb2.TruncationStrategy(**value["truncation_strategy"]),
        "tool_choice": tools.choice_to_proto(value["tool_choice"]),
        "response_format": formats.to_proto(value["response_format"]),
    }
    del given["object"]
    return run_objects_pb2.Run(**given, reasoning_effort=reasoning_effort)


def _required_action_to_proto(
    value: Mapping[str, Any] | None,
) -> run_objects_pb2.Run.RequiredAction | None:
    if value is None:
        return None
    calls = map(tool_calls.to_proto, value["submit_tool_outputs"]["tool_calls"])
    submit = run_objects_pb2.Run.SubmitToolOutputs(tool_calls=calls)
    return run_objects_pb2.Run.RequiredAction(submit_tool_outputs=submit)
