"""What texts of models refer to: marks of results, and links to files in the sandbox.

A mark is `【number:index†source】`, a link `sandbox:/path`. A text comes in pieces, and either may
be divided anywhere: what may become one is held back until that is told.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

MAX_NAME = 255
"""Characters of a file's name in a mark."""

MAX_MARK = MAX_NAME + 145
"""Characters of a mark. What is longer is a text."""

MAX_LINK = 1024
"""Characters of a link."""

_OPEN, _CLOSE, _DAGGER = "【", "】", "†"
_SCHEME = "sandbox:/"
_UNMARKED = str.maketrans(dict.fromkeys(f"{_OPEN}{_CLOSE}{_DAGGER}\n\r", "_"))

_MARK = re.compile(r"【\s*(\d{1,9})\s*:\s*(\d{1,9})\s*(?:†.*)?】", re.DOTALL)
_BROKEN_OFF = re.compile(r"【\s*\d+\s*(?::\s*\d*\s*)?(?:†.*)?", re.DOTALL)
"""A mark whose rest has not come."""

_NO_MARK = re.compile(r"[【\n]")
_END_OF_LINK = re.compile(r"[\s)\]>\"'`】]")
_TITLE = re.compile(r"\s+(?:\"[^\"]*\"|'[^']*')$")
_AFTER_LINK = ".,;:!?"
"""What ends a sentence, and not a path."""


def mark(number: int, index: int, filename: str) -> str:
    """Returns the mark by which texts cite a result of a call, by their numbers."""
    name = filename.translate(_UNMARKED)
    return f"{_OPEN}{number}:{index}{_DAGGER}{name[:MAX_NAME]}{_CLOSE}"


@dataclass(frozen=True, slots=True)
class Plain:
    """A text without references."""

    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that has the form of a mark."""

    text: str
    number: int
    """The call of the run that is cited; -1 where the mark does not say."""
    index: int

    @property
    def is_certain(self) -> bool:
        """Whether it can be nothing else: `【12:30】` may be a time."""
        return _DAGGER in self.text or not self.text.endswith(_CLOSE)


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a file in the sandbox."""

    text: str

    @property
    def paths(self) -> list[str]:
        """The absolute paths that it may mean: as it is written, and escaped as in URLs."""
        path = self.text.removeprefix(_SCHEME[:-1])
        return list(dict.fromkeys([path, unquote(path)]))


Part = Plain | Mark | Link


class Marks:
    """Finds the references in one text, which comes in pieces."""

    def __init__(self, *, marks: bool, links: bool) -> None:
        """Looks for marks and for links, or for one of them; all else is plain."""
        begin = [re.escape(_OPEN)] * marks + [re.escape(_SCHEME)] * links
        self._begin = re.compile("|".join(begin)) if begin else None
        self._links = links
        self._held = ""
        self._before = ""
        """The last character ahead of what is held back."""
        self._whole = False
        """Whether the text has come to its end."""

    def add(self, piece: str) -> list[Part]:
        """Takes the next piece; returns what can be told now."""
        if self._begin is None:
            return [Plain(piece)] if piece else []
        self._held += piece
        return list(_joined(self._told()))

    def rest(self) -> list[Part]:
        """Returns what was held back, at the end of the text. Half a mark is left out."""
        self._whole = True
        return list(_joined(self._told()))

    def _told(self) -> Iterator[Part]:
        """Yields what can be told of what is held back, and takes it."""
        while self._held and self._begin is not None:
            found = self._begin.search(self._held)
            if found is None:
                yield self._plain(len(self._held) - self._undecided())
                return
            if found.start():
                yield self._plain(found.start())
            part = self._mark() if self._held.startswith(_OPEN) else self._link()
            if part is None:
                return
            yield part

    def _plain(self, length: int) -> Plain:
        return Plain(self._take(length))

    def _take(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        self._before = text[-1:] or self._before
        return text

    def _undecided(self) -> int:
        """Returns how many of the last characters may be the beginning of a link."""
        if not self._links or self._whole:
            return 0
        lengths = range(min(len(_SCHEME) - 1, len(self._held)), 0, -1)
        return next((each for each in lengths if self._held.endswith(_SCHEME[:each])), 0)

    def _mark(self) -> Part | None:
        """Takes what begins as a mark; None as long as it cannot be told what it is."""
        held = self._held
        end = held.find(_CLOSE, 1, MAX_MARK)
        if _NO_MARK.search(held, 1, MAX_MARK if end < 0 else end) is None:
            if end > 0:
                text = held[: end + 1]
                if (match := _MARK.fullmatch(text)) is not None:
                    return Mark(self._take(end + 1), int(match[1]), int(match[2]))
                if _DAGGER in text:
                    return Mark(self._take(end + 1), -1, -1)
            elif len(held) < MAX_MARK:
                if not self._whole:
                    return None
                if _BROKEN_OFF.fullmatch(held):
                    return Mark(self._take(len(held)), -1, -1)
        return self._plain(1)

    def _link(self) -> Part | None:
        """Takes what begins as a link; None as long as its end has not come."""
        end = self._end_of_link()
        if end is None:
            return None
        link = self._held[:end].rstrip(_AFTER_LINK)
        if len(link) <= len(_SCHEME):
            return self._plain(len(link))
        return Link(self._take(len(link)))

    def _end_of_link(self) -> int | None:
        """Returns where the link ends: in Markdown's parentheses, paths may have some, and blanks.

        None as long as that is not known.
        """
        held = self._held
        more = len(held) < MAX_LINK and not self._whole
        if self._before == "(":
            end = _closing(held[:MAX_LINK])
            if end is None and more:
                return None
            if end is not None and end > 0:
                title = _TITLE.search(held[:end])
                return end if title is None else title.start()
        elif self._before == "<":
            line, _, _ = held[:MAX_LINK].partition("\n")
            if (end := line.find(">")) > 0:
                return end
            if more and len(line) == len(held):
                return None
        match = _END_OF_LINK.search(held, 0, MAX_LINK)
        if match is not None:
            return match.start()
        return None if more else min(len(held), MAX_LINK)


def _closing(held: str) -> int | None:
    """Returns where the parenthesis is that closes one ahead; -1 where it has none on the line.

    None where neither comes.
    """
    depth = 1
    for at, character in enumerate(held):
        match character:
            case "\n":
                return -1
            case "(":
                depth += 1
            case ")":
                depth -= 1
                if depth == 0:
                    return at
    return None


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Yields the parts with plain ones that follow each other as one, and no empty ones."""
    plain = ""
    for part in parts:
        if isinstance(part, Plain):
            plain += part.text
            continue
        if plain:
            yield Plain(plain)
            plain = ""
        yield part
    if plain:
        yield Plain(plain)
