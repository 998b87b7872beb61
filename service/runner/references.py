"""What the texts of a run may refer to: all that the calls of the server's tools have given it."""

import re
from dataclasses import dataclass, field
from typing import Any

from service.runner.marks import Mark, mark
from service.types.tool_calls import CODE_INTERPRETER, FILE_SEARCH
from storage.conversation import Context
from storage.rows import RunStep

MAX_QUOTE = 1000
"""Characters of a result that are shown where it is cited."""

MIN_SHARE, MIN_WORDS = 0.5, 2
"""The part of a text's words, and how many of them, that a result has which it is about."""

_WORD = re.compile(r"\w{4,}|\d{2,}")
"""Shorter words tell nothing, but for numbers."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A result that a text cites."""

    mark: str
    file_id: str
    quote: str

    @property
    def in_delta(self) -> dict[str, Any]:
        """The citation as deltas show it."""
        return {"file_id": self.file_id, "quote": self.quote}


@dataclass(slots=True)
class References:
    """What the run's calls have given so far."""

    calls: int = 0
    """How many calls the run has made."""
    images: list[str] = field(default_factory=list)
    """Ids of the images that no message shows yet."""
    files: dict[str, str] = field(default_factory=dict)
    """The files that calls have written: ids by path."""
    attached: set[str] = field(default_factory=set)
    """Ids of the files that messages of the run have as attachments."""
    _results: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context) -> "References":
        """Returns what the steps of a run have given, from oldest to newest."""
        found = cls()
        for step in context.steps:
            found._add(step)
        for message in context.step_messages.values():
            found.attached.update(each["file_id"] for each in message.attachments)
        return found

    def citation(self, mark: Mark) -> Citation | None:
        """Returns the result that a mark names, if there is one."""
        result = self._results.get((mark.number, mark.index))
        return None if result is None else _citation(mark.text, result)

    def nearest(self, text: str) -> Citation | None:
        """Returns the result that has most words of a text, the first of equals.

        None where it has less than half of the different words of four letters and more, and of the
        numbers, or only one.
        """
        words = _words(text)
        if not words or not self._results:
            return None
        shared = {at: len(words & _words(_text(each))) for at, each in self._results.items()}
        best = max(shared, key=lambda at: shared[at])
        if shared[best] < max(MIN_SHARE * len(words), MIN_WORDS):
            return None
        result = self._results[best]
        return _citation(mark(*best, result["file_name"]), result)

    def file(self, path: str) -> str | None:
        """Returns the file that was written under a path."""
        return self.files.get(path)

    def _add(self, step: RunStep) -> None:
        if step.type == "message_creation":
            self.images.clear()
            return
        executed = (step.replay or {}).get("executed") or []
        for each in executed:
            self.files |= (each or {}).get("files", {})
        for call in step.step_details["tool_calls"]:
            self.calls += 1
            details = call[call["type"]]
            if call["type"] == FILE_SEARCH:
                for index, result in enumerate(details.get("results", ())):
                    self._results[self.calls, index] = result
            if call["type"] == CODE_INTERPRETER:
                images = (each["image"] for each in details["outputs"] if each["type"] == "image")
                self.images += (image["file_id"] for image in images)


def _citation(mark: str, result: dict[str, Any]) -> Citation:
    return Citation(mark, result["file_id"], _text(result)[:MAX_QUOTE])


def _text(result: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in result.get("content", ()))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
