"""Notices answers far above their token limit, for servers that do not enforce it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

CHARACTERS_PER_TOKEN = 4
"""About. In many scripts a token is fewer: then an answer is broken off later, never too early."""

PATIENCE = 1.5
"""How many times the limit an answer may be by estimate, as estimates are rough."""

SLACK = 64
"""Tokens above the limit that an answer may be by estimate, however small the limit is."""

_BLANK = re.compile(r"\s+")


class AnswerLimit:
    """The limit of one answer in tokens, and an estimate of how many have come."""

    def __init__(self, tokens: int | None) -> None:
        """Begins to count; a limit of None is never reached."""
        self._tokens = tokens
        self._characters = 0

    def add(self, delta: Mapping[str, Any]) -> bool:
        """Takes in a delta of the answer; returns whether it is far above the limit now."""
        if self._tokens is None:
            return False
        self._characters += sum(len(_BLANK.sub(" ", text)) for text in _texts(delta))
        most = max(self._tokens * PATIENCE, self._tokens + SLACK)
        return self._characters / CHARACTERS_PER_TOKEN > most

    def exceeded(self, usage: Mapping[str, int] | None) -> bool:
        """Returns whether the answer took more than the limit, as its server counts."""
        return (
            self._tokens is not None
            and usage is not None
            and usage["completion_tokens"] > self._tokens
        )


def _texts(delta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what a delta says, each piece once: some servers give reasoning under two names."""
    reasoning = [delta[key] for key in ("reasoning_content", "reasoning") if delta.get(key)]
    for text in (delta.get("content"), delta.get("refusal"), *reasoning[:1]):
        if isinstance(text, str):
            yield text
        elif isinstance(text, list):
            yield from (part["text"] for part in text if isinstance(part.get("text"), str))
    for call in delta.get("tool_calls") or ():
        arguments = (call.get("function") or {}).get("arguments")
        if isinstance(arguments, str):
            yield arguments
