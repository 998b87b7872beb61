"""Cuts texts into overlapping chunks of so many tokens.

Tokens are those of wordllama's tokenizer, of which there are a sixth more than of the tokenizer of
OpenAI's models; sizes are converted. A chunk ends, if it can, with a line, and else with a word.
Chunks cover the whole text: each begins, at the latest, where the one before it ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.files.words import Ids, Places, Tokens, tokenize

RATIO = 1.16
"""Our tokens for one of OpenAI's."""

MAX_TOKENS = 5_000_000
"""OpenAI's tokens that a file may have."""

PIECE = 3000
"""Characters that are tokenized at a time: much longer words would take much longer."""

BATCH = 16
"""Pieces that are tokenized in one call."""

LINE_SLACK = 8
"""A chunk may lose this part of its size for its end to be that of a line."""

WORD_SLACK = 24
"""Tokens that a chunk may lose for its end to be that of a word."""


class TooManyTokens(Exception):
    """The text has more than MAX_TOKENS."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How long chunks are, and how much neighbours have in common, in OpenAI's tokens."""

    size: int = 800
    """100 to 4,096."""
    overlap: int = 400
    """At most half the size."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a text."""

    start: int
    """The character of the whole text at which it begins."""
    text: str
    tokens: Ids


class Chunker:
    """Takes in a text piece by piece and yields its chunks."""

    def __init__(self, strategy: Strategy) -> None:
        """Starts at the beginning of a text."""
        self._size = round(strategy.size * RATIO)
        self._overlap = round(strategy.overlap * RATIO)
        self._text = ""
        """What is needed of the text, from character `_base` on."""
        self._base = 0
        self._tokenized = 0
        """Characters, of the whole text, up to which there are tokens."""
        self._ids: Ids = np.empty(0, dtype=np.uint16)
        self._starts: Places = np.empty(0, dtype=np.int64)
        self._total = 0
        self._behind = 0
        """Tokens at the front that the chunk before has already."""

    def feed(self, text: str) -> list[Chunk]:
        """Takes in text; returns the chunks that are complete. Raises TooManyTokens."""
        self._text += text
        self._tokenize(final=False)
        return list(self._chunks(final=False))

    def finish(self) -> list[Chunk]:
        """Returns what is left at the end of the text. Raises TooManyTokens."""
        self._tokenize(final=True)
        return list(self._chunks(final=True))

    def _tokenize(self, *, final: bool) -> None:
        """Makes tokens of whole pieces, and of the rest at the end."""
        fresh = self._text[self._tokenized - self._base :]
        pieces, at = [], 0
        while len(fresh) - at >= PIECE or (final and at < len(fresh)):
            end = _piece_end(fresh, at)
            pieces.append((self._tokenized + at, fresh[at:end]))
            at = end
        self._tokenized += at
        for first in range(0, len(pieces), BATCH):
            batch = pieces[first : first + BATCH]
            self._append([place for place, _ in batch], tokenize([text for _, text in batch]))

    def _append(self, places: list[int], found: list[Tokens]) -> None:
        starts = [each.starts + place for place, each in zip(places, found, strict=True)]
        self._ids = np.concatenate([self._ids, *(each.ids for each in found)])
        self._starts = np.concatenate([self._starts, *starts])
        self._total += sum(len(each.ids) for each in found)
        if self._total > MAX_TOKENS * RATIO:
            raise TooManyTokens

    def _chunks(self, *, final: bool) -> Iterator[Chunk]:
        first = 0
        # The token behind a chunk is looked at, too: it tells where the chunk ends.
        while len(self._ids) - first > self._size:
            end = self._end(first)
            yield self._chunk(first, end)
            following = max(end - self._overlap, first + 1)
            while following < end and not self._begins_word(following):
                following += 1
            first, self._behind = following, end - following
        if final and len(self._ids) - first > self._behind:
            yield self._chunk(first, len(self._ids))
            first = len(self._ids)
        self._forget(first)

    def _chunk(self, first: int, end: int) -> Chunk:
        start = int(self._starts[first]) if first or self._base else 0
        stop = int(self._starts[end]) if end < len(self._starts) else self._tokenized
        text = self._text[start - self._base : stop - self._base]
        return Chunk(start, text, self._ids[first:end])

    def _end(self, first: int) -> int:
        """Returns the token behind the chunk that begins with a token."""
        most = first + self._size
        for end in range(most, most - self._size // LINE_SLACK, -1):
            if self._before(end) == "\n":
                return end
        for end in range(most, most - WORD_SLACK, -1):
            if self._begins_word(end):
                return end
        # Of a character that is several tokens, all are in one chunk.
        end = most
        while end > first + 1 and self._starts[end] == self._starts[end - 1]:
            end -= 1
        return end

    def _begins_word(self, token: int) -> bool:
        return self._before(token).isspace() or self._at(token).isspace()

    def _before(self, token: int) -> str:
        at = int(self._starts[token]) - self._base
        return self._text[at - 1 : at]

    def _at(self, token: int) -> str:
        at = int(self._starts[token]) - self._base
        return self._text[at : at + 1]

    def _forget(self, first: int) -> None:
        """Drops the tokens before one, and their text."""
        kept = int(self._starts[first]) if first < len(self._starts) else self._tokenized
        # The character before a token is looked at.
        kept = max(kept - 1, self._base)
        self._text = self._text[kept - self._base :]
        self._base = kept
        # Copies, so that what is dropped is freed.
        self._ids, self._starts = self._ids[first:].copy(), self._starts[first:].copy()


def _piece_end(text: str, at: int) -> int:
    """Returns where the piece ends that begins there: with a line or a word, if it has any."""
    most = at + PIECE
    if most > len(text):
        return len(text)
    for mark in ("\n", " "):
        if (found := text.rfind(mark, at + PIECE // 2, most)) > 0:
            # A space belongs to the word behind it.
            return found + (mark == "\n")
    return most
