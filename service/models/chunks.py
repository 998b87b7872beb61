"""From what chat-completion servers stream to chunks that can be relied on.

OpenAI's format is spoken in many dialects. Everything that a server may leave out, repeat or get
wrong is settled here, once.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from service.models.calls import CallDelta, Calls
from service.models.ends import Reason, end_of, is_reason
from service.models.failures import (
    BROKEN_OFF,
    NO_ANSWER,
    ModelError,
    error_in_stream,
    error_of,
)
from service.models.limits import AnswerLimit
from service.models.reasoning import ThinkSplitter
from service.models.replay import Fields, Replay, replay_of
from service.models.texts import storable

__all__ = [
    "CallDelta",
    "Chunk",
    "Finished",
    "Piece",
    "Reader",
    "RefusalDelta",
    "Replay",
    "TextDelta",
    "storable",
]

log = structlog.get_logger(__name__)

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
class Finished:
    """The end of a whole answer; `tool_calls` if and only if it calls functions and is not cut off.

    `usage` has prompt_tokens, completion_tokens and total_tokens, unless the server kept them.
    `replay` is what the server must get back with the turn; None if that is nothing.
    """

    reason: Reason
    usage: dict[str, int] | None
    replay: Replay | None = None


Piece = TextDelta | RefusalDelta | CallDelta
Chunk = Piece | Finished


KNOWN = frozenset(("role", "content", "refusal", "tool_calls", "function_call", "audio", "index"))
"""The fields of a turn that are not its server's own."""


@dataclass(slots=True)
class Reader:
    """Reads one answer: `read` for each event of the stream, then `finish`, then `rest`.

    `functions` are the names of the functions that may be called. With `think`, `<think>…</think>`
    at the beginning of the text is reasoning and no part of the answer. `limit` is how many tokens
    the answer may take: one that takes more has reached its limit, whatever the server says.
    """

    reason: str | None = None
    """Why the model stopped, in the server's words; None until it says so."""

    functions: Collection[str] = ()
    think: bool = True
    limit: int | None = None
    broken_off: bool = False
    """Whether the answer is so far above its limit that no more of it is to be read."""
    _usage: dict[str, int] | None = None
    _calls: Calls = field(init=False)
    _splitter: ThinkSplitter = field(default_factory=ThinkSplitter)
    _thoughts: list[str] = field(default_factory=list)
    """Reasoning from the text."""
    _turn: Fields = field(default_factory=Fields)
    _spoke: bool = False
    _refused: bool = False
    _half: str = ""
    """The first half of a character whose second half is still to come."""
    _rest: str = ""
    """The end of the text, if it was held back."""
    _cut_off: bool = False
    _limit: AnswerLimit = field(init=False)

    def __post_init__(self) -> None:
        self._limit = AnswerLimit(self.limit)
        self._calls = Calls(self.functions)

    def read(self, event: object) -> list[Piece]:
        """Returns what an event (the JSON of one `data:`) adds.

        Raises ModelError, but never after the event that says why the model stopped.
        """
        ended = self.reason is not None
        pieces: list[Piece] = []
        try:
            if error := error_of(event):
                raise error_in_stream(error)
            if not isinstance(event, dict):
                raise TypeError("an event that is no object")
            for piece in self._pieces(event):
                pieces.append(piece)
        except ModelError:
            if not ended:
                raise
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as unexpected:
            if not ended:
                raise ModelError("server_error", NO_ANSWER) from unexpected
        return pieces

    def _pieces(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        self._count(event.get("usage"))
        groq = event.get("x_groq")
        self._count(groq.get("usage") if isinstance(groq, dict) else None)
        for choice in event.get("choices") or ():
            if choice.get("index"):
                continue  # Only one answer was asked for.
            self._count(choice.get("usage"))
            if error := choice.get("error"):
                raise error_in_stream(error)
            # What a server says after the end does not undo it.
            if self.reason is None and is_reason(reason := choice.get("finish_reason")):
                self.reason = str(reason)
            delta = choice.get("delta")
            if delta is None:  # Some servers call it as in an answer that is not streamed.
                delta = choice.get("message")
            delta = delta or {}
            self._turn.add({key: value for key, value in delta.items() if key not in KNOWN})
            if text := self._answer(storable(self._whole(_text(delta.get("content"))))):
                self._spoke = True
                yield TextDelta(text)
            if text := storable(_text(delta.get("refusal"))):
                self._refused = True
                yield RefusalDelta(text)
            calls = delta.get("tool_calls") or ()
            # Some servers say each call twice, the old way as well.
            if not calls and (delta.get("function_call") or {}).get("name"):
                raise ValueError("a call without an id, as before tool_calls")
            yield from self._calls.read(calls)
            if self._limit.add(delta) and self.reason is None:
                log.warning("answer broken off above its limit", limit=self.limit)
                self.reason, self.broken_off = "length", True

    def finish(self) -> Finished:
        """Returns the end of the answer. Raises ModelError if the stream ended before it did."""
        if self.reason is None:
            raise ModelError("server_error", BROKEN_OFF, retryable=True)
        end = end_of(self.reason)
        if end in ("stop", "tool_calls") and self._limit.exceeded(self._usage):
            end = "length"
        if end == "fault":
            message = "The model server gave up on the answer."
            raise ModelError("server_error", message, retryable=True)
        if self._calls.nameless:
            raise ModelError("server_error", "The model called a function without naming it.")
        thought, self._rest = self._splitter.rest()
        self._thoughts.append(thought)
        self._spoke = self._spoke or bool(self._rest)
        if thoughts := "".join(self._thoughts):
            self._turn.add({"reasoning_content": thoughts})
        replay = replay_of(self._turn.joined(), self._calls.replay())
        if replay and not (self._calls or self._spoke or self._refused):
            log.warning("model only reasoned", reason=self.reason, fields=sorted(replay.turn))
        match end:
            case "content_filter" | "length":
                self._cut_off = True
                return Finished(end, self._usage, replay)
            case "tool_calls" if not (self._calls or self._spoke):
                raise ModelError("server_error", NO_ANSWER)
            case _:
                # Servers say "stop" after calls as well, OpenAI's when a call was demanded.
                return Finished("tool_calls" if self._calls else "stop", self._usage, replay)

    def rest(self) -> list[Piece]:
        """Returns the pieces between the last event and the end that `finish` returned.

        They are what was held back, and `{}` for each whole call without arguments.
        """
        text: list[Piece] = [TextDelta(self._rest)] if self._rest else []
        return [*text, *self._calls.rest(cut_off=self._cut_off)]

    def _count(self, given: object) -> None:
        """Takes in a usage: the latest that counts anything is the answer's."""
        usage = _usage(given)
        if usage is not None and (self._usage is None or any(usage.values())):
            self._usage = usage

    def _answer(self, text: str) -> str:
        """Returns text without the reasoning in it."""
        if not self.think:
            return text
        thought, text = self._splitter.read(text)
        if thought:
            self._thoughts.append(thought)
        return text

    def _whole(self, text: str) -> str:
        """Returns text without a last half of a character, which waits for the next text."""
        text, self._half = self._half + text, ""
        if self.reason is None and "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text


def _text(content: object) -> str:
    """Returns the text of what a delta has as its content: some servers send a list of parts."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError("a content that is no text")
    return content


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
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    if not 0 <= value <= MAX_TOKENS:
        return 0
    return int(value)
