"""What the scripted model does next: the steps of `tests.support.model_server`.

A step is used once, and shows the test what became of it: `started` is set when a request plays it,
`disconnected` when the client went away before its end. Tests wait for these, and never sleep.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Delta = dict[str, Any]
"""What one chunk adds: keys of OpenAI's `choices[0].delta`, or the `finish_reason` beside it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until the test releases the step."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the connection; `politely`, as if the answer were at its end."""

    politely: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer with this status and body instead of a stream."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pause:
    """Take some time."""

    seconds: float


Act = Delta | Wait | Pause | Drop | Reply

Refuses = Callable[[Mapping[str, Any]], "Fail | None"]
"""What a model makes of a request before it plays a step: None if it takes it."""

Call = tuple[str, Mapping[str, Any] | str]
"""A function's name, and its arguments; text is sent as it is, also when it is no JSON."""

PIECE: Final = 4
"""Characters of text or arguments in a chunk."""


@dataclass(eq=False)
class Step:
    """One request's answer."""

    started: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    disconnected: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def acts(self) -> Iterator[Act]:
        """What happens, in order, after the request was read."""
        raise NotImplementedError

    @property
    def usage(self) -> dict[str, int] | None:
        """The tokens to report, if any."""
        return None


@dataclass(eq=False)
class Answer(Step):
    """Text, in several chunks. No text is an empty answer."""

    text: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 20
    completion_tokens: int = 5

    def acts(self) -> Iterator[Act]:
        for piece in _pieces(self.text):
            yield {"content": piece}
        yield {"finish_reason": self.finish_reason}

    @property
    def usage(self) -> dict[str, int] | None:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class Paced(Answer):
    """Text, in several chunks, with a pause ahead of each: a model that takes its time."""

    def __init__(self, text: str, pause: float) -> None:
        """Pauses for so many seconds each time."""
        super().__init__(text)
        self._pause = pause

    def acts(self) -> Iterator[Act]:
        for act in super().acts():
            yield Pause(self._pause)
            yield act


@dataclass(eq=False)
class Refusal(Answer):
    """A refusal of this text."""

    def acts(self) -> Iterator[Act]:
        for piece in _pieces(self.text):
            yield {"refusal": piece}
        yield {"finish_reason": self.finish_reason}


class Calls(Answer):
    """Function calls, in parallel if several, after `text` if there is one."""

    def __init__(self, *calls: Call, text: str = "", finish_reason: str = "tool_calls") -> None:
        """Calls functions by name with arguments; ids are `call_0`, `call_1`, … by position."""
        super().__init__(text, finish_reason)
        self.calls = calls

    def acts(self) -> Iterator[Act]:
        for piece in _pieces(self.text):
            yield {"content": piece}
        for index, (name, arguments) in enumerate(self.calls):
            function = {"name": name, "arguments": ""}
            first = {"index": index, "id": f"call_{index}", "type": "function"}
            yield {"tool_calls": [first | {"function": function}]}
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            for piece in _pieces(text):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
        yield {"finish_reason": self.finish_reason}


class Deltas(Answer):
    """What a server of another dialect says: these deltas, as they are."""

    def __init__(self, *deltas: Delta, finish_reason: str = "stop") -> None:
        """Sends each delta in a chunk."""
        super().__init__(finish_reason=finish_reason)
        self.deltas = deltas

    def acts(self) -> Iterator[Act]:
        yield from self.deltas
        yield {"finish_reason": self.finish_reason}


@dataclass(eq=False)
class Fail(Step):
    """An HTTP error with OpenAI's body, or with another; `retry_after` is a header, in seconds."""

    status: int
    message: str = "The model failed."
    code: str | None = None
    retry_after: int | None = None
    body: Any = None

    def acts(self) -> Iterator[Act]:
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        yield Reply(self.status, self.body or error(self.message, self.code), headers)


@dataclass(eq=False)
class BreakOff(Step):
    """Drops the connection: before the answer's first byte, or after the text `after`.

    `politely` ends the stream as HTTP wants it, but without a finish reason and `[DONE]`.
    """

    after: str | None = None
    politely: bool = False

    def acts(self) -> Iterator[Act]:
        if self.after is not None:
            yield {"role": "assistant"}
            for piece in _pieces(self.after):
                yield {"content": piece}
        yield Drop(self.politely)


@dataclass(eq=False)
class Hold(Step):
    """Plays `step`, but first waits for `release`: ahead of its first byte, or after text.

    `held` is set when the wait begins: all that comes before it has been sent.
    """

    step: Step
    after: str | None = None
    held: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    released: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def release(self) -> None:
        """Lets the answer go on."""
        self.released.set()

    def acts(self) -> Iterator[Act]:
        if self.after is None:
            yield Wait()
            yield from self.step.acts()
            return
        missing: str | None = self.after
        for act in self.step.acts():
            if missing is None or not isinstance(act, dict) or "content" not in act:
                yield act
                continue
            text = act["content"]
            head, tail = text[: len(missing)], text[len(missing) :]
            yield {"content": head}
            missing = missing[len(head) :] or None
            if missing is None:
                yield Wait()
            if tail:
                yield {"content": tail}

    @property
    def usage(self) -> dict[str, int] | None:
        return self.step.usage


def error(message: str, code: str | None) -> dict[str, Any]:
    """Returns an error's body as OpenAI sends it."""
    return {"error": {"message": message, "type": "error", "param": None, "code": code}}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + PIECE] for at in range(0, len(text), PIECE))
