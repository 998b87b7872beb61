"""Requests to run an assistant: what they decide, and what they leave to the assistant."""

from assistants.v1 import runs_pb2

from service.errors import ApiError, Kind
from service.process import tracing
from service.types import requests, runs, tool_resources
from storage.new_runs import Draft, NewRun
from storage.tables import Assistant

Request = runs_pb2.CreateRunRequest | runs_pb2.CreateThreadAndRunRequest

OVERRIDABLE = frozenset(
    name
    for request in (runs_pb2.CreateRunRequest, runs_pb2.CreateThreadAndRunRequest)
    for name in request.DESCRIPTOR.fields_by_name
    if name not in ("thread_id", "override_mask")
)
"""What `override_mask` may name."""

RESOURCES = "tool_resources"
"""What only a request that creates a thread, too, may have in place of its assistant's."""


def draft(request: Request, lifetime: int, assistant: Assistant | None = None) -> Draft:
    """Checks a request and returns the run to insert, of `lifetime` seconds at most.

    What is wrong only with some assistants' tools is refused when the assistant completes the run;
    with `assistant` it is refused here, in its place among the other refusals. Raises ApiError.
    """
    known = {} if assistant is None else runs.inherited(assistant)
    chosen = requests.override(request, runs.FIELDS, OVERRIDABLE, known)
    traceparent = tracing.traceparent()
    files, stores = list[str](), list[str]()
    if isinstance(request, runs_pb2.CreateThreadAndRunRequest) and request.HasField(RESOURCES):
        given = tool_resources.parse_existing(RESOURCES, request.tool_resources)
        chosen[RESOURCES], files, stores = dict(given.given), given.files, given.stores

    def complete(assistant: Assistant) -> NewRun:
        values = runs.inherited(assistant) | chosen
        requests.check(values, runs.FIELDS)
        first, added = values["instructions"] or "", values.pop("additional_instructions")
        values["instructions"] = f"{first}\n{added}" if first and added else first or added
        return NewRun(assistant.id, values | {"traceparent": traceparent}, lifetime)

    return Draft(request.assistant_id, complete, files, stores)


def refuse_stream(request: Request | runs_pb2.SubmitToolOutputsRequest, instead: str) -> None:
    """Refuses `stream` on a call that answers once; `instead` is the call that streams."""
    if request.stream:
        raise ApiError(
            Kind.invalid_value,
            f"Invalid 'stream': this call answers once. Call {instead} for events.",
            "stream",
        )
