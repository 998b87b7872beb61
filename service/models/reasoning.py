"""Reasoning that a model puts before its answer, in the text of the answer itself."""

from dataclasses import dataclass
from typing import Literal

BEGIN = "<think>"
END = "</think>"


@dataclass(slots=True)
class ThinkSplitter:
    """Takes `<think>…</think>` at the beginning of a text apart from the rest.

    Blank space before and after it belongs to neither. Text that may still become one of the tags
    is held back until more comes.
    """

    _state: Literal["undecided", "thinking", "between", "answer"] = "undecided"
    _held: str = ""

    def read(self, text: str) -> tuple[str, str]:
        """Returns what a piece adds to the reasoning, and what it adds to the answer."""
        if self._state == "answer" or not text:
            return "", text
        text, self._held = self._held + text, ""
        if self._state == "undecided":
            begin = text.lstrip()
            if begin.startswith(BEGIN):
                self._state, text = "thinking", begin.removeprefix(BEGIN)
            elif BEGIN.startswith(begin):
                self._held = text
                return "", ""
            else:
                self._state = "answer"
                return "", text
        thought = ""
        if self._state == "thinking":
            thought, end, text = text.partition(END)
            if not end:
                self._held = _begun(thought)
                return thought[: len(thought) - len(self._held)], ""
            self._state = "between"
        text = text.lstrip()
        if text:
            self._state = "answer"
        return thought, text

    def rest(self) -> tuple[str, str]:
        """Returns what was held back, as reasoning and as answer, when nothing more comes."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "thinking" else ("", held)


def _begun(text: str) -> str:
    """Returns the longest end of a text with which END may begin."""
    lengths = range(min(len(END) - 1, len(text)), 0, -1)
    return next((text[-n:] for n in lengths if END.startswith(text[-n:])), "")
