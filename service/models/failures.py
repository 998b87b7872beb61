"""How a model fails, and whether asking it again may help."""

import email.utils
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]

NO_ANSWER = "The model server sent something that is no answer."
BROKEN_OFF = "The model server broke the answer off."

LONGEST_WAIT = 86_400.0
"""Seconds. Who asks for more than a day means something else."""

SMALLEST_CONTEXT = 256
"""Tokens. Who speaks of fewer means something else."""

_CONTEXT = re.compile(
    r"(?:context (?:length|size|window)|model length|configured limit)\D{1,20}(\d{1,9})\b",
    re.IGNORECASE,
)


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
    if context is None and (said := _CONTEXT.search(error_text(error) or "")):
        context = int(said[1])
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


def error_in_stream(error: object) -> ModelError:
    """Returns what a server says in the middle of an answer; some give a status as its `code`,
    as a number or as text."""
    given: Mapping[str, Any] = error if isinstance(error, dict) else {}
    status = _status(given.get("code")) or _status(given.get("status"))
    if status is None:
        status = 400 if given.get("type") == "invalid_request_error" else 500
    text = error_text(error)
    return ModelError(
        code_of(status),
        text or BROKEN_OFF,
        quoted=text is not None,
        retryable=is_retryable(status, error),
        refusal=refusal_of(status, error),
    )


def error_text(error: object) -> str | None:
    """Returns the message of an error as servers put it.

    It is a text, an object that has it (`error.message`, `detail`, `message`, `msg`), or a list of
    such, of which the first with a text counts.
    """
    if isinstance(error, dict):
        keyed = (error.get(key) for key in ("message", "error", "detail", "msg"))
        return next(filter(None, map(error_text, keyed)), None)
    if isinstance(error, list):
        return next(filter(None, map(error_text, error)), None)
    # A proxy's page tells nothing.
    if isinstance(error, str) and not error.lstrip().startswith("<"):
        return error.strip() or None
    return None


def _words(error: object) -> Iterator[str]:
    """Yields the texts of an error, and the names of what it is about."""
    match error:
        case dict():
            for key in ("message", "error", "detail", "msg", "param", "loc"):
                yield from _words(error.get(key))
        case list():
            for each in error:
                yield from _words(each)
        case str() if not error.lstrip().startswith("<"):
            yield error


def _status(code: object) -> int | None:
    """Returns the HTTP status that an error's code is, if it is one."""
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        code = int(code)
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
        return max(parsed.timestamp() - time.time(), 0)
    except (ValueError, OverflowError):
        return None
