"""How the events of an answer lie in the body of a response."""

import asyncio
import codecs
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from service.models.ends import is_reason
from service.models.failures import ModelError, error_in_stream, error_of

NO_STREAM = "The model server did not answer with a stream."

NOT_STREAMS = ("application/json", "text/html")
"""Types of bodies that are no streams unless they have an event: servers label streams at will."""

DRAIN_TIMEOUT = 0.5
"""Seconds that a connection gets to end its body after the last event, to be used again."""

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(slots=True)
class _Decoder:
    """Takes a body apart into its events, each with its name and its data."""

    _line: list[str] = field(default_factory=list)
    """The pieces of a line that has not ended."""
    _data: list[str] = field(default_factory=list)
    _name: str = ""
    _after_return: bool = False

    def read(self, text: str) -> Iterator[tuple[str, str]]:
        """Yields each event that ends in this piece of the body."""
        if self._after_return:
            text = text.removeprefix("\n")
        self._after_return = text.endswith("\r")
        *ended, rest = _LINE_END.split(text)
        for line in ended:
            yield from self._end_line("".join([*self._line, line]))
            self._line.clear()
        if rest:
            self._line.append(rest)

    def rest(self) -> Iterator[tuple[str, str]]:
        """Yields an event that the end of the body has ended."""
        yield from self._end_line("".join(self._line))
        yield from self._end_line("")

    def _end_line(self, line: str) -> Iterator[tuple[str, str]]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            data, event = "\n".join(self._data), self._name
            self._data, self._name = [], ""
            if data.strip() and event != "ping":
                yield event, data
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value


async def events(response: httpx2.Response) -> AsyncGenerator[object, None]:
    """Yields the JSON of each event of an answer, up to `[DONE]`.

    Events without data, and those named `ping`, are nothing; a byte order mark at the beginning is
    skipped. A whole answer in place of a stream is one event.

    Raises ModelError if the body is no answer, openai.APIConnectionError, and ValueError and
    RecursionError for what is no JSON.
    """
    any_event = False
    try:
        async with contextlib.aclosing(_texts(response)) as texts:
            start = await _start(texts)
            if start.startswith(("{", "[")):
                yield await _whole(start, texts)
                return
            async with contextlib.aclosing(_data(start, texts)) as data:
                async for event in data:
                    any_event = True
                    yield event
    except UnicodeDecodeError:
        if any_event or not _is_no_stream(response):
            raise
    except httpx2.TimeoutException as error:
        raise openai.APITimeoutError(request=response.request) from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise openai.APIConnectionError(request=response.request) from error
    if not any_event and _is_no_stream(response):
        raise ModelError("server_error", NO_STREAM)


async def _data(start: str, texts: AsyncIterator[str]) -> AsyncGenerator[object, None]:
    """Yields the JSON of the events in a body that begins with `start`."""
    decoder = _Decoder()
    text: str | None = start
    while text is not None:
        for name, data in decoder.read(text):
            if data.startswith("[DONE]"):
                await _drain(texts)
                return
            yield _named(name, data)
        text = await anext(texts, None)
    for name, data in decoder.rest():
        try:
            event = _named(name, data)
        except ValueError:
            continue  # `[DONE]`, or cut off, as its blank line is missing.
        yield event


def _named(name: str, data: str) -> object:
    """Returns the JSON of an event; one that is called an error is one, whatever it holds."""
    if name != "error":
        return json.loads(data)
    event: object = data
    with contextlib.suppress(ValueError):
        event = json.loads(data)
    return event if error_of(event) else {"error": event}


def _is_no_stream(response: httpx2.Response) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() in NOT_STREAMS


async def _texts(response: httpx2.Response) -> AsyncGenerator[str, None]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    async for chunk in response.aiter_bytes():
        try:
            text = decoder.decode(chunk)
        except UnicodeDecodeError as error:
            # What came before is whole events, perhaps the last that count.
            yield error.object[: error.start].decode("utf-8-sig")
            raise
        if text:
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


async def _start(texts: AsyncIterator[str]) -> str:
    """Returns the beginning of a body, with its first character that is not blank, if any."""
    async for text in texts:
        if start := text.lstrip():
            return start
    return ""


async def _whole(start: str, texts: AsyncIterator[str]) -> dict[str, Any]:
    """Returns an answer that was not streamed, as an event. Raises ModelError if it is none."""
    body: object = None
    with contextlib.suppress(httpx2.HTTPError, ValueError, RecursionError):
        body = json.loads("".join([start, *[text async for text in texts]]))
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


async def _drain(texts: AsyncIterator[str]) -> None:
    """Reads the end of a body. Nothing can fail any more."""
    with contextlib.suppress(httpx2.HTTPError, httpx2.StreamError, ValueError, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for _ in texts:
                pass
