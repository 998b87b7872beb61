"""Runs: what requests for them say, and how they are shown."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from service.types import (
    checks,
    include,
    last_error,
    metadata,
    reasoning_effort,
    response_format,
    sampling,
    tool_calls,
    tool_choice,
    tools,
    truncation_strategy,
    usage,
)
from service.types.json_value import Json
from service.types.requests import INHERITED, Field, Stored
from storage.rows import Assistant, Run, RunStep
from storage.runs import is_awaited
from storage.tables import RunStatus

_TOKENS = partial(checks.integer, minimum=256, maximum=2**31 - 1)
_INSTRUCTIONS = partial(checks.text, maximum=checks.MAX_TEXT)


def _check_choice(stored: Stored) -> None:
    # The assistant's tools are not known before it is read.
    if "tools" in stored:
        tool_choice.refuse_unknown(stored["tool_choice"], stored["tools"])


FIELDS: tuple[Field, ...] = (
    include.FIELD,
    Field("tools", partial(tools.parse, maximum=20), default=INHERITED),
    Field("model", partial(checks.required_text, maximum=256), default=INHERITED, required=True),
    Field("instructions", _INSTRUCTIONS, default=INHERITED),
    Field("additional_instructions", _INSTRUCTIONS, default=""),
    metadata.FIELD,
    Field("temperature", sampling.parse_temperature, default=INHERITED),
    Field("top_p", sampling.parse_top_p, default=INHERITED),
    Field("max_prompt_tokens", _TOKENS),
    Field("max_completion_tokens", _TOKENS),
    Field("truncation_strategy", truncation_strategy.parse, default=truncation_strategy.AUTO),
    Field("tool_choice", tool_choice.parse, check=_check_choice),
    Field("parallel_tool_calls", checks.boolean),
    Field("response_format", response_format.parse, default=INHERITED),
    Field("reasoning_effort", reasoning_effort.parse, default=INHERITED),
)
"""What a request to run an assistant decides, in the order of checking."""

MODIFIABLE: tuple[Field, ...] = (metadata.FIELD,)
"""The fields of a run that a caller may modify."""


def inherited(assistant: Assistant) -> Stored:
    """Returns what a run has of its assistant where its request does not say otherwise."""
    names = [field.name for field in FIELDS if field.default is INHERITED]
    return {name: getattr(assistant, name) for name in ("tool_resources", *names)}


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
        "last_error": last_error.to_json(row.last_error),
        "expires_at": row.expires_at,
        "started_at": row.started_at,
        "cancelled_at": row.cancelled_at,
        "failed_at": row.failed_at,
        "completed_at": row.completed_at,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": row.model,
        "instructions": row.instructions,
        "tools": tools.to_json(row.tools),
        "metadata": metadata.to_json(row.metadata_),
        "usage": usage.to_json(row.usage),
        "temperature": sampling.to_json(row.temperature),
        "top_p": sampling.to_json(row.top_p),
        "max_prompt_tokens": row.max_prompt_tokens,
        "max_completion_tokens": row.max_completion_tokens,
        "truncation_strategy": row.truncation_strategy,
        "tool_choice": tool_choice.to_json(row.tool_choice),
        "parallel_tool_calls": row.parallel_tool_calls is not False,
        "response_format": response_format.to_json(row.response_format),
    }


def _required_action(row: Run, pending: RunStep | None) -> Json | None:
    if pending is None or row.status != RunStatus.requires_action:
        return None
    calls = pending.step_details["tool_calls"]
    awaited = [tool_calls.without_output(call) for call in calls if is_awaited(call)]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": awaited}}


def extensions(row: Run) -> Json:
    """Returns the fields that only protobuf shows: OpenAI's object has no key for them."""
    return {"reasoning_effort": row.reasoning_effort}


def to_fields(value: Json, extensions: Mapping[str, Any]) -> Json:
    """Returns the fields of the same in protobuf, with its extensions."""
    fields = {
        **value,
        **extensions,
        "required_action": _required_action_fields(value["required_action"]),
        "tools": tools.to_proto(value["tools"]),
        "metadata": value["metadata"] or None,
        "tool_choice": tool_choice.to_proto(value["tool_choice"]),
        "response_format": response_format.to_proto(value["response_format"]),
    }
    del fields["object"]
    return fields


def _required_action_fields(value: Mapping[str, Any] | None) -> Json | None:
    if value is None:
        return None
    calls = [*map(tool_calls.to_proto, value["submit_tool_outputs"]["tool_calls"])]
    return {"submit_tool_outputs": {"tool_calls": calls}}
