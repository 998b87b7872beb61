"""What a request to run an assistant decides, and what it leaves to the assistant."""

from typing import Any

from assistants.v1 import runs_pb2

from service.api import masks
from service.errors import ApiError, Kind
from service.types import fields, validate
from storage.new_runs import Draft, NewRun
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

INHERITED = ("model", "tools", "temperature", "top_p", "response_format", "reasoning_effort")
"""What a run has of its assistant where the request does not say otherwise."""


def draft(request: Request, lifetime: int, assistant: Assistant | None = None) -> Draft:
    """Checks a request and returns the run to insert, of `lifetime` seconds at most.

    What is wrong only with some assistants' tools is refused when the assistant completes the run;
    with `assistant` it is refused here, in its place among the other refusals. Raises ApiError.
    """
    given = masks.overridden(request, request.override_mask, OVERRIDABLE)
    own: dict[str, Any] = {}
    if "tools" in given:
        own["tools"] = fields.tools("tools", request.tools, 20)
    tools = own.get("tools", assistant and assistant.tools)
    if tools is not None:
        fields.refuse_server_tools(tools)
    if "model" in given:
        own["model"] = validate.required_text("model", request.model, 256)
    instructions, added = _instructions(request)
    metadata = validate.metadata("metadata", request.metadata)
    if request.HasField("temperature"):
        own["temperature"] = validate.decimal("temperature", request.temperature, 0, 2)
    if request.HasField("top_p"):
        own["top_p"] = validate.decimal("top_p", request.top_p, 0, 1)
    max_prompt_tokens = _tokens(request, "max_prompt_tokens")
    max_completion_tokens = _tokens(request, "max_completion_tokens")
    truncation_strategy: dict[str, Any] = {"type": "auto", "last_messages": None}
    if request.HasField("truncation_strategy"):
        truncation_strategy = fields.truncation_strategy(
            "truncation_strategy", request.truncation_strategy
        )
    choice = fields.tool_choice("tool_choice", request.tool_choice)
    if tools is not None:
        fields.chosen_tool("tool_choice", choice, tools)
    if request.HasField("response_format"):
        own["response_format"] = fields.response_format("response_format", request.response_format)
    if isinstance(request, runs_pb2.CreateRunRequest) and request.HasField("reasoning_effort"):
        own["reasoning_effort"] = fields.reasoning_effort(
            "reasoning_effort", request.reasoning_effort
        )

    def complete(assistant: Assistant) -> NewRun:
        if "tools" not in own:
            fields.refuse_server_tools(assistant.tools)
            fields.chosen_tool("tool_choice", choice, assistant.tools)
        values = {name: getattr(assistant, name) for name in INHERITED} | own
        first = (assistant.instructions or "") if instructions is None else instructions
        return NewRun(
            assistant_id=assistant.id,
            instructions=f"{first}\n{added}" if first and added else first or added,
            metadata=metadata,
            max_prompt_tokens=max_prompt_tokens,
            max_completion_tokens=max_completion_tokens,
            truncation_strategy=truncation_strategy,
            tool_choice=choice,
            parallel_tool_calls=request.parallel_tool_calls
            if request.HasField("parallel_tool_calls")
            else None,
            lifetime=lifetime,
            **values,
        )

    return Draft(request.assistant_id, complete)


def refuse_stream(request: Request | runs_pb2.SubmitToolOutputsRequest, instead: str) -> None:
    """Refuses `stream` on a call that answers once; `instead` is the call that streams."""
    if request.stream:
        raise ApiError(
            Kind.invalid_value,
            f"Invalid 'stream': this call answers once. Call {instead} for events.",
            "stream",
        )


def _instructions(request: Request) -> tuple[str | None, str]:
    """Returns the instructions that take the place of the assistant's, and those to add."""
    instead, added = None, ""
    if request.HasField("instructions"):
        instead = validate.text("instructions", request.instructions, validate.MAX_TEXT)
    if isinstance(request, runs_pb2.CreateRunRequest) and request.additional_instructions:
        added = validate.text(
            "additional_instructions", request.additional_instructions, validate.MAX_TEXT
        )
    return instead, added


def _tokens(request: Request, field: Any) -> int | None:
    if not request.HasField(field):
        return None
    return validate.integer(field, getattr(request, field), MIN_TOKENS, MAX_INT32)
