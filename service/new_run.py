"""What a request to run an assistant decides, and what it leaves to the assistant."""

from typing import Any

from assistants.v1 import runs_pb2

from service import fields, masks, validate
from service.errors import ApiError, Kind
from storage.runs import NewRun
from storage.tables import Assistant

Request = runs_pb2.CreateRunRequest | runs_pb2.CreateThreadAndRunRequest

MIN_TOKENS = 256
MAX_INT32 = 2**31 - 1

OVERRIDABLE = frozenset(
    name
    for request in (runs_pb2.CreateRunRequest, runs_pb2.CreateThreadAndRunRequest)
    for name in request.DESCRIPTOR.fields_by_name
    if name not in ("thread_id", "override_mask")
)
"""What `override_mask` may name."""


def new_run(request: Request, assistant: Assistant, lifetime: int) -> NewRun:
    """Returns the run to insert, of `lifetime` seconds at most. Raises ApiError."""
    given = masks.overridden(request, request.override_mask, OVERRIDABLE)
    tools = fields.tools("tools", request.tools, 20) if "tools" in given else assistant.tools
    fields.refuse_server_tools(tools)
    return NewRun(
        assistant_id=assistant.id,
        model=validate.required_text("model", request.model, 256)
        if "model" in given
        else assistant.model,
        instructions=_instructions(request, assistant),
        tools=tools,
        metadata=validate.metadata("metadata", request.metadata),
        temperature=validate.decimal("temperature", request.temperature, 0, 2)
        if request.HasField("temperature")
        else assistant.temperature,
        top_p=validate.decimal("top_p", request.top_p, 0, 1)
        if request.HasField("top_p")
        else assistant.top_p,
        max_prompt_tokens=_tokens(request, "max_prompt_tokens"),
        max_completion_tokens=_tokens(request, "max_completion_tokens"),
        truncation_strategy=fields.truncation_strategy(
            "truncation_strategy", request.truncation_strategy
        )
        if request.HasField("truncation_strategy")
        else {"type": "auto", "last_messages": None},
        tool_choice=fields.tool_choice("tool_choice", request.tool_choice, tools),
        parallel_tool_calls=request.parallel_tool_calls
        if request.HasField("parallel_tool_calls")
        else None,
        response_format=fields.response_format("response_format", request.response_format)
        if request.HasField("response_format")
        else assistant.response_format,
        reasoning_effort=_reasoning_effort(request, assistant),
        lifetime=lifetime,
    )


def refuse_stream(request: Request | runs_pb2.SubmitToolOutputsRequest, instead: str) -> None:
    """Refuses `stream` on a call that answers once; `instead` is the call that streams."""
    if request.stream:
        raise ApiError(
            Kind.invalid_value,
            f"Invalid 'stream': this call answers once. Call {instead} for events.",
            "stream",
        )


def _instructions(request: Request, assistant: Assistant) -> str:
    instructions = assistant.instructions or ""
    if request.HasField("instructions"):
        instructions = validate.text("instructions", request.instructions, validate.MAX_TEXT)
    if isinstance(request, runs_pb2.CreateRunRequest) and request.additional_instructions:
        added = validate.text(
            "additional_instructions", request.additional_instructions, validate.MAX_TEXT
        )
        instructions = f"{instructions}\n{added}" if instructions else added
    return instructions


def _tokens(request: Request, field: Any) -> int | None:
    if not request.HasField(field):
        return None
    return validate.integer(field, getattr(request, field), MIN_TOKENS, MAX_INT32)


def _reasoning_effort(request: Request, assistant: Assistant) -> str | None:
    if isinstance(request, runs_pb2.CreateRunRequest) and request.HasField("reasoning_effort"):
        return fields.reasoning_effort("reasoning_effort", request.reasoning_effort)
    return assistant.reasoning_effort
