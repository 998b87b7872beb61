"""What a `finish_reason` means, in the words of every dialect."""

import re
from typing import Literal

import structlog

log = structlog.get_logger(__name__)

Reason = Literal["stop", "length", "tool_calls", "content_filter"]
End = Reason | Literal["fault"]

ENDS: dict[str, End] = {
    # The model came to its end.
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "finish": "stop",
    # It called functions.
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    # A limit cut it off.
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_length": "length",
    "max_new_tokens": "length",
    "max_completion_tokens": "length",
    "token_limit": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "context_length_exceeded": "length",
    # A filter took it away.
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "recitation": "content_filter",
    "spii": "content_filter",
    "sensitive": "content_filter",
    "image_safety": "content_filter",
    "image_prohibited_content": "content_filter",
    "guardrail_intervened": "content_filter",
    "error_toxic": "content_filter",
    "refusal": "content_filter",
    # The server broke down: there is no answer, and another request may get one.
    "error": "fault",
    "abort": "fault",
    "aborted": "fault",
    "network_error": "fault",
    "insufficient_system_resource": "fault",
    "server_error": "fault",
    "timeout": "fault",
    "time_limit": "fault",
    "cancelled": "fault",
    "malformed_function_call": "fault",
    "unexpected_tool_call": "fault",
}
"""Reasons in lower case; `fault` is for answers that failed."""


_NONE = ("", "null", "none")
"""What some servers say as long as there is no reason."""

_PREFIX = re.compile(r"^finish_?reason[._]")


def is_reason(reason: object) -> bool:
    """Returns whether a `finish_reason` says that the answer has ended."""
    return bool(reason) and not (isinstance(reason, str) and reason.strip().lower() in _NONE)


def end_of(reason: str) -> End:
    """Returns what a finish reason means; one that is not in the table is logged and read as stop.

    Upper and lower case are the same (Gemini says `MAX_TOKENS`), so are blanks, hyphens and
    underscores, the name of the enumeration may stand before it (`FinishReason.STOP`), and whatever
    begins with `content_filter` is a filter's.
    """
    known = re.sub(r"[\s-]+", "_", reason.strip().lower())
    known = _PREFIX.sub("", known)
    if known.startswith("content_filter"):
        return "content_filter"
    end = ENDS.get(known)
    if end is None:
        log.warning("unknown finish reason", reason=reason[:100])
        return "stop"
    return end
