"""Every error that a caller can meet, in one table.

`ApiError` is raised by servicers and by what checks requests for them. gRPC callers get its status,
its message and a `google.rpc.ErrorInfo`; REST callers get its HTTP status and OpenAI's body. Both
read the row of the table that the error's `kind` names. Errors of storage and of streams, which
know of no transport, become one in `from_exception`.
"""

import math
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import grpc
import structlog
from google.rpc import code_pb2, error_details_pb2, status_pb2

from storage import errors as storage_errors

log = structlog.get_logger(__name__)

DOMAIN = "assistants.v1"

MAX_STATUS_TEXT = 1200
"""Bytes of a text in a gRPC status. It all travels in trailers, of which clients take 8 KiB: the
message twice, once with three characters for each byte that is not ASCII.
"""


class SettingsError(Exception):
    """A setting is broken; the message is one line that names it, for whoever starts the server."""


class StreamError(Exception):
    """Base of what ends or refuses a stream of a run's events. Its text is for the reader."""


class EventsGone(StreamError):
    """Some of the events are not kept any more."""


class EventsNotPublished(StreamError):
    """The run has no event yet of the number behind which a stream is to begin."""


class RunDeleted(StreamError):
    """The run, or its thread, was deleted."""

    def __init__(self) -> None:
        super().__init__("The run was deleted.")


class BusClosed(StreamError):
    """The event bus was closed: the server shuts down."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.")


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """How one kind of error looks on both transports. `code` is OpenAI's, where it gives one."""

    http: int
    grpc: grpc.StatusCode
    type: str
    code: str | None


_INVALID = "invalid_request_error"


class Kind(StrEnum):
    """What went wrong. The value is ErrorInfo's reason; it is OpenAI's code where there is one."""

    not_found = "not_found"
    active_run = "active_run"
    wrong_status = "wrong_status"
    wrong_tool_outputs = "wrong_tool_outputs"
    unavailable_tool = "unavailable_tool"
    missing = "missing_required_parameter"
    unknown_parameter = "unknown_parameter"
    duplicate_parameter = "duplicate_parameter"
    invalid_type = "invalid_type"
    invalid_value = "invalid_value"
    integer_below_min = "integer_below_min_value"
    integer_above_max = "integer_above_max_value"
    decimal_below_min = "decimal_below_min_value"
    decimal_above_max = "decimal_above_max_value"
    string_above_max = "string_above_max_length"
    array_above_max = "array_above_max_length"
    array_below_min = "empty_array"
    too_many_properties = "object_above_max_properties"
    missing_api_key = "missing_api_key"
    invalid_api_key = "invalid_api_key"
    mismatched_project = "mismatched_project"
    rate_limit_exceeded = "rate_limit_exceeded"
    events_gone = "events_gone"
    unavailable = "unavailable"
    internal = "internal"


def _bad(code: str | None) -> ErrorSpec:
    return ErrorSpec(400, grpc.StatusCode.INVALID_ARGUMENT, _INVALID, code)


def _unknown(code: str | None) -> ErrorSpec:
    return ErrorSpec(401, grpc.StatusCode.UNAUTHENTICATED, _INVALID, code)


TABLE: dict[Kind, ErrorSpec] = {
    Kind.not_found: ErrorSpec(404, grpc.StatusCode.NOT_FOUND, _INVALID, None),
    Kind.active_run: ErrorSpec(400, grpc.StatusCode.FAILED_PRECONDITION, _INVALID, None),
    Kind.wrong_status: ErrorSpec(400, grpc.StatusCode.FAILED_PRECONDITION, _INVALID, None),
    Kind.wrong_tool_outputs: _bad(None),
    Kind.unavailable_tool: _bad(None),
    Kind.missing: _bad(Kind.missing),
    Kind.unknown_parameter: _bad(Kind.unknown_parameter),
    Kind.duplicate_parameter: _bad(Kind.duplicate_parameter),
    Kind.invalid_type: _bad(Kind.invalid_type),
    Kind.invalid_value: _bad(Kind.invalid_value),
    Kind.integer_below_min: _bad(Kind.integer_below_min),
    Kind.integer_above_max: _bad(Kind.integer_above_max),
    Kind.decimal_below_min: _bad(Kind.decimal_below_min),
    Kind.decimal_above_max: _bad(Kind.decimal_above_max),
    Kind.string_above_max: _bad(Kind.string_above_max),
    Kind.array_above_max: _bad(Kind.array_above_max),
    Kind.array_below_min: _bad(Kind.array_below_min),
    Kind.too_many_properties: _bad(Kind.too_many_properties),
    Kind.missing_api_key: _unknown(None),
    Kind.invalid_api_key: _unknown(Kind.invalid_api_key),
    Kind.mismatched_project: _unknown(Kind.mismatched_project),
    Kind.rate_limit_exceeded: ErrorSpec(
        429,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Kind.rate_limit_exceeded,
        Kind.rate_limit_exceeded,
    ),
    Kind.events_gone: ErrorSpec(410, grpc.StatusCode.OUT_OF_RANGE, _INVALID, None),
    Kind.unavailable: ErrorSpec(503, grpc.StatusCode.UNAVAILABLE, "server_error", None),
    Kind.internal: ErrorSpec(500, grpc.StatusCode.INTERNAL, "server_error", None),
}


class ApiError(Exception):
    """An error for the caller: `message` is shown as it is, `param` names the field at fault.

    The same call may succeed in `retry_after` seconds, if that is given.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        param: str | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @classmethod
    def too_many(cls, what: str, retry_after: float | None) -> Self:
        """An error of a limit on what comes in a time, or is there at once."""
        later = "" if retry_after is None else f" Try again in {_whole(retry_after)} s."
        message = f"{what}.{later}"
        return cls(Kind.rate_limit_exceeded, message, retry_after=retry_after)

    @property
    def spec(self) -> ErrorSpec:
        """The error's row of the table."""
        return TABLE[self.kind]

    @classmethod
    def internal(cls, error_id: str) -> Self:
        """An error whose cause only the log knows, under `error_id`."""
        return cls(Kind.internal, f"The server had an error. It is logged under id {error_id}.")

    def body(self) -> dict[str, Any]:
        """OpenAI's error object: the four keys that stand under `error`."""
        spec = self.spec
        return {
            "message": self.message,
            "type": spec.type,
            "param": self.param,
            "code": spec.code,
        }

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What says on both transports when to try again."""
        if self.retry_after is None:
            return ()
        return (("retry-after", str(_whole(self.retry_after))),)

    def status(self) -> status_pb2.Status:
        """The rich status of gRPC; long texts are cut."""
        status = status_pb2.Status(
            code=code_pb2.Code.Value(self.spec.grpc.name), message=_cut(self.message)
        )
        info = error_details_pb2.ErrorInfo(reason=self.spec.code or self.kind, domain=DOMAIN)
        if self.param is not None:
            info.metadata["param"] = _cut(self.param)
        status.details.add().Pack(info)
        return status


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_STATUS_TEXT:
        return text
    return data[:MAX_STATUS_TEXT].decode(errors="ignore") + "…"


def from_exception(error: Exception) -> ApiError:
    """Returns what the caller may know of an error. What is not meant for callers is logged."""
    match error:
        case ApiError():
            return error
        case storage_errors.DiskFull():
            log.error("disk full: nothing can be stored until it has space", reason=str(error))
            return ApiError(
                Kind.unavailable, "The server has no space left to store this. Try again later."
            )
        case storage_errors.Unreachable():
            log.warning("database unreachable", reason=str(error))
            return ApiError(Kind.unavailable, "The database cannot be reached. Try again later.")
        case storage_errors.NotFound():
            return ApiError(Kind.not_found, f"No {error.kind} found with id '{error.id}'.")
        case storage_errors.LockedThread():
            return ApiError(
                Kind.active_run,
                f"Can't add messages to {error.thread_id} while a run {error.run_id} is active.",
            )
        case storage_errors.ActiveRun():
            return ApiError(
                Kind.active_run,
                f"Thread {error.thread_id} already has an active run {error.run_id}.",
            )
        case storage_errors.QuotaExceeded():
            what = f"Quota of the project reached: {error.limit} {error.quota}"
            return ApiError.too_many(what, error.retry_after)
        case storage_errors.InvalidCursor():
            return ApiError(
                Kind.invalid_value, f"Invalid '{error.param}': '{error.cursor}'.", error.param
            )
        case storage_errors.NotCancellable():
            return ApiError(Kind.wrong_status, f"Cannot cancel run with status '{error.status}'.")
        case storage_errors.NotAwaitingOutputs():
            return ApiError(
                Kind.wrong_status,
                f'Runs in status "{error.status}" do not accept tool outputs.',
            )
        case storage_errors.WrongToolOutputs():
            return ApiError(
                Kind.wrong_tool_outputs,
                f"Expected tool outputs for call_ids {error.expected}, got {error.got}",
            )
        case EventsGone():
            return ApiError(Kind.events_gone, str(error))
        case EventsNotPublished():
            return ApiError(Kind.invalid_value, str(error), "after_sequence")
        case RunDeleted():
            return ApiError(Kind.not_found, str(error))
        case BusClosed():
            return ApiError(Kind.unavailable, str(error))
    error_id = secrets.token_hex(8)
    log.error("unexpected error", error_id=error_id, exc_info=error)
    return ApiError.internal(error_id)
