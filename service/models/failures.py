"""How a model fails, and whether asking it again may help."""

import email.utils
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from storage import wall_clock

ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]

NO_ANSWER = "The model server sent something that is no answer."
BROKEN_OFF = "The model server broke the answer off."
KEY_REFUSED = "The model server refuses this server's API key."

LONGEST_WAIT = 86_400.0
"""Seconds. Who asks for more than a day means something else."""

SMALLEST_CONTEXT = 256
"""Tokens. Who speaks of fewer means something else."""

_CONTEXT = re.compile(
    r"(?:context (?:length|size|window)|model length|configured limit)\D{1,20}(\d{1,9})\b",
    re.IGNORECASE,
)


_STATUSES = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found": 404,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
}
"""The HTTP statuses of errors that a word names, in lower case. All others are faults."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not taken as it was: its status, and all that the server says of it."""

    status: int
    words: str


class ModelError(Exception):
    """The model gave no whole answer.

    `message` is fit for callers. It is in the model server's words where `quoted`, else in ours.
    `retryable` says that the same request may succeed later; it says nothing about pieces of the
    answer that came before the failure. `retry_after` is the least number of seconds (0 to a day)
    that the server wants to be left alone for, None if it did not say. `context` is the model's, in
    tokens, where the request was refused because it is longer. `refusal` is there where another
    form of the same request may be taken.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        quoted: bool = False,
        retryable: bool = False,
        retry_after: float | None = None,
        context: int | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.quoted = quoted
        self.retryable = retryable
        self.retry_after = retry_after
        self.context = context
        self.refusal = refusal


def code_of(status: int) -> ErrorCode:
    """Returns what a run says of an HTTP status."""
    match status:
        case 429:
            return "rate_limit_exceeded"
        case 400 | 422:
            return "invalid_prompt"
        case _:
            return "server_error"


def is_retryable(status: int, error: object) -> bool:
    """Returns whether a request that got this status and error may succeed later."""
    # An account without money stays so: OpenAI says 429 to that as well.
    if isinstance(error, dict) and "insufficient_quota" in (error.get("code"), error.get("type")):
        return False
    return status in (408, 409, 429) or status >= 500


def exceeded_context(status: int, error: object) -> int | None:
    """Returns the context, in tokens, that a request was longer than, if that is why it failed."""
    if status not in (400, 413, 422):
        return None
    # llama.cpp says it in a field; OpenAI, vLLM, SGLang and others in a sentence.
    context = error.get("n_ctx") if isinstance(error, dict) else None
    if context is None and (transcript := _CONTEXT.search(error_text(error) or "")):
        context = int(transcript[1])
    return context if type(context) is int and context >= SMALLEST_CONTEXT else None


def refusal_of(status: int, error: object) -> Refusal | None:
    """Returns what a server refuses with this status and error; None if it is something else.

    Chat templates that raise are a 500 with some servers.
    """
    if status not in (400, 422, 500):
        return None
    return Refusal(status, " ".join(_words(error)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns for how many seconds a response's headers (names in lower case) ask to wait.

    Understands Retry-After, in seconds or as a date, and the more precise `retry-after-ms`. None
    if there is neither, and for what makes no sense.
    """
    seconds = _number(headers.get("retry-after-ms"), 1000)
    if seconds is None:
        seconds = _number(headers.get("retry-after"), 1)
    if seconds is None:
        seconds = _until(headers.get("retry-after"))
    if seconds is None or not 0 <= seconds <= LONGEST_WAIT:
        return None
    return seconds


def error_of(event: object) -> object:
    """Returns the error that an event of an answer is, or a whole body; None if it is none.

    Some servers put it under `error`, or in a list, others send it bare, in place of choices.
    """
    if isinstance(event, list):
        return next(filter(None, map(error_of, event)), None)
    if not isinstance(event, dict):
        return None
    groq = event.get("x_groq")
    error = event.get("error") or (groq.get("error") if isinstance(groq, dict) else None)
    if isinstance(error, dict | list) and error:
        return error
    if error:
        return {"message": error, **event}
    if "choices" in event:
        return None
    status = _status(event.get("code")) or _status(event.get("status"))
    bare = status or event.get("detail") or "error" in (event.get("object"), event.get("type"))
    return event if bare else None


def error_in_stream(error: object) -> ModelError:
    """Returns what a server says in the middle of an answer.

    Some give a status as its `code`, as a number, as text or as a word.
    """
    given: Mapping[str, Any] = error if isinstance(error, dict) else {}
    codes = (given.get(key) for key in ("code", "status", "type"))
    status = next(filter(None, map(_status, codes)), 500)
    if status in (401, 403):
        return ModelError("server_error", KEY_REFUSED)
    text = error_text(error)
    return ModelError(
        code_of(status),
        text or BROKEN_OFF,
        quoted=text is not None,
        retryable=is_retryable(status, error),
        context=exceeded_context(status, error),
        refusal=refusal_of(status, error),
    )


def error_text(error: object) -> str | None:
    """Returns the message of an error as servers put it.

    It is a text, an object that has it (`error.message`, `detail`, `message`, `msg`), or a list of
    such, of which the first with a text counts. What a server passes on of another's error
    (`metadata.raw`) follows.
    """
    if isinstance(error, dict):
        keyed = (error.get(key) for key in ("message", "error", "detail", "msg", "errors"))
        text = next(filter(None, map(error_text, keyed)), None)
        return ": ".join(filter(None, (text, error_text(_passed_on(error))))) or None
    if isinstance(error, list):
        return next(filter(None, map(error_text, error)), None)
    # A proxy's page explains nothing.
    if isinstance(error, str) and not error.lstrip().startswith("<"):
        return error.strip() or None
    return None


def _passed_on(error: Mapping[str, Any]) -> object:
    """Returns the error that a server got from another one, as OpenRouter passes it on."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    try:
        return json.loads(raw) if isinstance(raw, str) else raw
    except (ValueError, RecursionError):
        return raw


def _words(error: object) -> Iterator[str]:
    """Yields the texts of an error, and the names of what it is about."""
    match error:
        case dict():
            for key in ("message", "error", "detail", "msg", "errors", "param", "loc"):
                yield from _words(error.get(key))
            yield from _words(_passed_on(error))
        case list():
            for each in error:
                yield from _words(each)
        case str() if not error.lstrip().startswith("<"):
            yield error


def _status(code: object) -> int | None:
    """Returns the HTTP status that an error's code is, or that its word names."""
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdecimal() else _STATUSES.get(code.lower())
    return code if type(code) is int and 400 <= code <= 599 else None


def _number(text: str | None, unit: int) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value / unit if math.isfinite(value) else None


def _until(date: str | None) -> float | None:
    """Returns the seconds until an HTTP date, 0 if it is past."""
    try:
        parsed = email.utils.parsedate_to_datetime(date or "")
        return max(parsed.timestamp() - wall_clock.now(), 0)
    except (ValueError, OverflowError):
        return None
