"""How the events of an answer lie in the body of a response."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from service.models import values
from service.models.connections import MAX_BODY, Failure, Response
from service.models.ends import is_reason
from service.models.failures import ModelError, error_in_stream, error_of

NO_STREAM = "The model server did not answer with a stream."

NOT_STREAMS = ("application/json", "text/html")
"""Types of bodies that are no streams unless they have an event: servers label streams at will."""

DRAIN_TIMEOUT = 0.5
"""Seconds that a connection gets to end its body after the last event, to be used again."""

_MARK = b"\xef\xbb\xbf"
"""What may stand at the beginning of a text."""

_END = b"[DONE]"


@dataclass(slots=True)
class Decoder:
    """Takes a body apart into its events, each with its name and its data."""

    _line: list[bytes] = field(default_factory=list)
    """The pieces of a line that has not ended."""
    _data: list[bytes] = field(default_factory=list)
    _name: bytes = b""
    _held: int = 0
    """Bytes of the event that has not ended."""
    _after_return: bool = False

    def read(self, body: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields each event that ends in this piece of the body.

        Raises ValueError for one that is too long.
        """
        if self._after_return:
            body = body.removeprefix(b"\n")
        self._after_return = body.endswith(b"\r")
        lines = body.splitlines()
        rest = b"" if body.endswith((b"\n", b"\r")) or not lines else lines.pop()
        if self._line and lines:
            begun = b"".join(self._line)
            lines[0] = begun + lines[0]
            self._line.clear()
            self._held -= len(begun)
        for line in lines:
            if line:
                self._read_line(line)
            elif self._data:
                yield from self._event()
            else:
                self._name = b""
        if rest:
            self._hold(self._line, rest)

    def rest(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields an event that the end of the body has ended."""
        self._read_line(b"".join(self._line))
        yield from self._event()

    def _read_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._hold(self._data, value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.removeprefix(b" ")

    def _hold(self, place: list[bytes], piece: bytes) -> None:
        place.append(piece)
        self._held += len(piece)
        if self._held > MAX_BODY:
            raise ValueError("an event that is too long")

    def _event(self) -> Iterator[tuple[bytes, bytes]]:
        data, name = b"\n".join(self._data), self._name
        self._data.clear()
        self._name, self._held = b"", 0
        if data.strip() and name != b"ping":
            yield name, data


class Events:
    """The events of an answer: `read` until it has `ended`, then `drain`.

    Events without data, and those named `ping`, are nothing; a byte order mark at the beginning is
    skipped. A whole answer in place of a stream is one event.
    """

    def __init__(self, response: Response) -> None:
        """Reads from `response`, which is the caller's to close."""
        self.ended = False
        """Whether no more events can come: after `[DONE]`, or the end of the body."""
        self._response = response
        self._decoder = Decoder()
        self._start: bytes | None = b""
        """What has come while it is blank, or the half of a mark; None afterwards."""
        self._any = False

    async def read(self) -> Iterator[object]:
        """Waits for the next part of the body; returns the JSON of each event that ends in it.

        The iterator must be exhausted before the next call. It and the call raise ModelError if the
        body is no answer, Failure, and ValueError and RecursionError for what is no JSON.
        """
        body = await self._response.read()
        if self._start is not None:
            return await self._begin(body)
        return self._events(body)

    async def drain(self) -> None:
        """Reads the end of the body, for the connection to be used again. Never fails."""
        with contextlib.suppress(Failure, TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT):
                while not self._response.ended and await self._response.read():
                    pass

    async def _begin(self, body: bytes) -> Iterator[object]:
        """Returns the events of a body's beginning, once that has a character."""
        raw = (self._start or b"") + body
        start = raw.removeprefix(_MARK).lstrip()
        if body and (not start or _MARK.startswith(raw)):
            self._start = raw if _MARK.startswith(raw) else b" "
            return iter(())
        self._start = None
        if start.startswith((b"{", b"[")):
            self.ended = True
            return iter([await self._whole(start)])
        return self._events(start)

    def _events(self, body: bytes) -> Iterator[object]:
        """Yields the events of a part of the body; an empty one is its end."""
        for name, data in self._decoder.read(body):
            if data.startswith(_END):
                self.ended = True
                break
            self._any = True
            yield _named(name, data)
        if not body:
            self.ended = True
            for name, data in self._decoder.rest():
                with contextlib.suppress(ValueError):  # `[DONE]`, or cut off: no blank line.
                    event = _named(name, data)
                    self._any = True
                    yield event
        if self.ended and not self._any and self._response.media_type in NOT_STREAMS:
            raise ModelError("server_error", NO_STREAM)

    async def _whole(self, start: bytes) -> dict[str, Any]:
        """Returns an answer that was not streamed, as an event. Raises ModelError if it is none."""
        body: object = None
        with contextlib.suppress(Failure, ValueError, RecursionError):
            body = values.load(start + await self._response.whole())
        if error := error_of(body):
            raise error_in_stream(error)
        choices = body.get("choices") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(choices, list) or not choices:
            raise ModelError("server_error", NO_STREAM)
        # It has ended, whether it says so or not.
        ended = [
            {**choice, "finish_reason": "stop"}
            if isinstance(choice, dict) and not is_reason(choice.get("finish_reason"))
            else choice
            for choice in choices
        ]
        return {**body, "choices": ended}


def _named(name: bytes, data: bytes) -> object:
    """Returns the JSON of an event; one that is called an error is one, whatever it holds."""
    if name != b"error":
        return values.load(data)
    event: object = data.decode(errors="replace")
    with contextlib.suppress(ValueError):
        event = values.load(data)
    return event if error_of(event) else {"error": event}
