"""From what chat-completion servers stream to chunks that can be relied on.

OpenAI's format is spoken in many dialects. Everything that a server may leave out, repeat or get
wrong is settled here, once.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.models.ends import Reason, end_of
from service.models.failures import BROKEN_OFF, NO_ANSWER, ModelError, error_in_stream

MAX_TOKENS = 10**12
"""Of one answer. More would not fit where the sums of many are kept."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A piece of the text with which the model refuses to answer, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a function call.

    Calls are numbered by `index` from 0, in the order in which they begin. The first piece of a
    call, and no other, has its name, and its id if the server gave one. `arguments` is a piece of
    JSON text.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a whole answer; `tool_calls` if and only if it calls functions and is not cut off.

    `usage` has prompt_tokens, completion_tokens and total_tokens, unless the server kept them.
    """

    reason: Reason
    usage: dict[str, int] | None


Piece = TextDelta | RefusalDelta | CallDelta
Chunk = Piece | Finished


@dataclass(slots=True)
class _Call:
    index: int
    id: str | None
    name: str | None
    unsent: str = ""


@dataclass(slots=True)
class Reader:
    """Reads one answer: `read` for each event of the stream, then `finish`."""

    reason: str | None = None
    """Why the model stopped, in the server's words; None until it says so."""

    _usage: dict[str, int] | None = None
    _calls: list[_Call] = field(default_factory=list)
    _by_index: dict[int, _Call] = field(default_factory=dict)
    """The latest call under each of the server's own indexes."""
    _spoke: bool = False
    _half: str = ""
    """The first half of a character whose second half is still to come."""

    def read(self, event: object) -> list[Piece]:
        """Returns what an event (the JSON of one `data:`) adds. Raises ModelError."""
        if not isinstance(event, dict):
            raise ModelError("server_error", NO_ANSWER)
        if error := event.get("error"):
            raise error_in_stream(error)
        try:
            return list(self._pieces(event))
        except (AttributeError, TypeError, ValueError, OverflowError) as unexpected:
            raise ModelError("server_error", NO_ANSWER) from unexpected

    def _pieces(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        self._usage = _usage(event.get("usage")) or self._usage
        for choice in event.get("choices") or ():
            if choice.get("index"):
                continue  # Only one answer was asked for.
            self.reason = choice.get("finish_reason") or self.reason
            delta = choice.get("delta")
            if delta is None:  # Some servers call it as in an answer that is not streamed.
                delta = choice.get("message")
            delta = delta or {}
            if text := storable(self._whole(_text(delta.get("content")))):
                self._spoke = True
                yield TextDelta(text)
            if text := storable(_text(delta.get("refusal"))):
                yield RefusalDelta(text)
            calls = delta.get("tool_calls") or ()
            # Some servers say each call twice, the old way as well.
            if not calls and (delta.get("function_call") or {}).get("name"):
                raise ValueError("a call without an id, as before tool_calls")
            for piece in calls:
                yield from self._call_piece(piece)

    def finish(self) -> Finished:
        """Returns the end of the answer. Raises ModelError if the stream ended before it did."""
        if self.reason is None:
            raise ModelError("server_error", BROKEN_OFF, retryable=True)
        end = end_of(self.reason)
        if end == "fault":
            message = "The model server gave up on the answer."
            raise ModelError("server_error", message, retryable=True)
        if any(call.name is None for call in self._calls):
            raise ModelError("server_error", "The model called a function without naming it.")
        match end:
            case "content_filter" | "length":
                return Finished(end, self._usage)
            case "tool_calls" if not (self._calls or self._spoke):
                raise ModelError("server_error", NO_ANSWER)
            case _:
                # Servers say "stop" after calls as well, OpenAI's when a call was demanded.
                return Finished("tool_calls" if self._calls else "stop", self._usage)

    def _whole(self, text: str) -> str:
        """Returns text without a last half of a character, which waits for the next text."""
        text, self._half = self._half + text, ""
        if self.reason is None and "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text

    def _call_piece(self, piece: Mapping[str, Any]) -> Iterator[CallDelta]:
        function = piece.get("function") or {}
        id, name = piece.get("id") or None, storable(function.get("name")) or None
        call = self._current_call(piece.get("index"), id, name)
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        begins = call is None or call.name is None
        if call is None:
            call = _Call(len(self._calls), id, name)
            self._calls.append(call)
        index = piece.get("index")
        self._by_index[call.index if index is None else index] = call
        if begins:
            call.id, call.name = call.id or id, name
            call.unsent += arguments
            if name is not None:
                yield CallDelta(call.index, call.id, name, storable(call.unsent))
        elif arguments:
            yield CallDelta(call.index, None, None, storable(arguments))

    def _current_call(self, index: int | None, id: str | None, name: str | None) -> _Call | None:
        """Returns the call that a piece continues; None if it begins one.

        Some servers give no index, or the same to every call; some repeat id and name.
        """
        if index is None:
            call = self._calls[-1] if self._calls else None
            begins = name is not None
        else:
            call = self._by_index.get(index)
            begins = False
        if call is None:
            return None
        if id is not None and call.id is not None:
            begins = id != call.id
        elif name is not None and call.name is not None:
            begins = begins or name != call.name
        return None if begins else call


def _text(content: object) -> str:
    """Returns the text of what a delta has as its content: some servers send a list of parts."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError("a content that is no text")
    return content


def storable(value: object) -> str:
    """Returns text as it can be stored: without NUL and without halves of surrogate pairs.

    What is no text at all is an empty one.
    """
    if not isinstance(value, str):
        return ""
    if not value.isascii():
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value.replace("\0", "\ufffd")


def _usage(value: object) -> dict[str, int] | None:
    """Returns the counts of a usage object; one that makes no sense counts 0."""
    if not isinstance(value, dict):
        return None
    prompt, completion, total = (
        _count(value.get(f"{kind}_tokens")) for kind in ("prompt", "completion", "total")
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total or prompt + completion,
    }


def _count(value: object) -> int:
    if not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS:
        return 0
    return int(value)
