"""How large a prompt is, as far as that is known without a tokenizer."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

PORTION = 1000
"""Turns that are measured in one go: it takes a few milliseconds."""


class Size(NamedTuple):
    """What a part of a prompt takes. Those of parts make up that of the whole."""

    bytes: int = 0
    """Of its texts, as UTF-8."""
    characters: int = 0
    texts: int = 0
    turns: int = 0
    images: int = 0

    def plus(self, other: "Size") -> "Size":
        """Returns the size of both parts together."""
        return Size(*map(int.__add__, self, other))

    @property
    def joined(self) -> int:
        """The bytes of all its texts, with a character between each two."""
        return self.bytes + max(self.texts - 1, 0)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What of a request takes tokens of its model."""

    model: str
    size: Size
    text: Callable[[], str]
    """Returns all of its texts, each on a line of its own."""

    @classmethod
    async def of(cls, request: Mapping[str, Any]) -> "Prompt":
        """Measures a chat-completion request; others get their turn meanwhile."""
        turns, size = request["messages"], of_options(request)

        def text() -> str:
            return "\n".join([*texts(turns), *option_texts(request)])

        for start in range(0, len(turns), PORTION):
            if start:
                await asyncio.sleep(0)
            size = size.plus(of_turns(turns[start : start + PORTION]))
        return cls(request["model"], size, text)


def of_turns(turns: Sequence[Mapping[str, Any]]) -> Size:
    """Returns the size of turns."""
    parts = [part for turn in turns for part in _parts(turn)]
    read = [part for part in parts if part is not None]
    return _of_texts(read, len(turns), len(parts) - len(read))


def of_options(request: Mapping[str, Any]) -> Size:
    """Returns the size of what the model reads of a request besides its turns."""
    return _of_texts(option_texts(request))


def texts(turns: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the texts that the model reads of turns."""
    return [part for turn in turns for part in _parts(turn) if part is not None]


def option_texts(request: Mapping[str, Any]) -> list[str]:
    """Returns the texts that the model reads of a request besides its turns."""
    options = (request[key] for key in ("tools", "response_format") if key in request)
    return [json.dumps(option, ensure_ascii=False) for option in options]


def size_of(text: str) -> int:
    """Returns the bytes of a text."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _of_texts(read: list[str], turns: int = 0, images: int = 0) -> Size:
    return Size(sum(map(size_of, read)), sum(map(len, read)), len(read), turns, images)


def _parts(turn: Mapping[str, Any]) -> Iterator[str | None]:
    """Yields the texts that the model reads of a turn, and None for each image."""
    content = turn.get("content") or ()
    if isinstance(content, str):
        yield content
    else:
        yield from (part.get("text") for part in content)
    # What a server gets back with its own turn: reasoning is read again, all else is opaque.
    replayed = map(turn.get, ("reasoning_content", "reasoning"))
    yield from (text for text in replayed if isinstance(text, str))
    for call in turn.get("tool_calls") or ():
        yield f"{call['function']['name']} {call['function']['arguments']}"
