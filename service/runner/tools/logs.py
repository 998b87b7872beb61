"""The text that a piece of code has put out: cut in the middle, shown as it comes."""

from collections import deque

SHOWN = 100_000
"""Characters that the step shows."""

SEEN = 16_000
"""Characters of them that the model sees, where its context has room."""


class Logs:
    """What has come so far."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._first: list[str] = []
        self._room = SHOWN // 2
        """Characters that are still missing in the first half."""

        self._last: deque[str] = deque()
        self._kept = 0
        self._dropped = 0

    def add(self, text: str) -> str:
        """Adds a piece. Returns what can be shown of it now: all but what may be left out."""
        now, later = text[: self._room], text[self._room :]
        self._room -= len(now)
        if now:
            self._first.append(now)
        if later:
            self._last.append(later)
            self._kept += len(later)
        while self._kept > SHOWN // 2:
            over = self._kept - SHOWN // 2
            piece = self._last.popleft()
            self._dropped += min(over, len(piece))
            self._kept -= min(over, len(piece))
            if piece[over:]:
                self._last.appendleft(piece[over:])
        return now

    def end(self) -> str:
        """Returns what is to be shown behind all that `add` has returned."""
        last = "".join(self._last)
        return _left_out(self._dropped) + last if self._dropped else last

    def for_model(self, most: int = SEEN) -> str:
        """Returns what the model sees: so many characters, an even number from 2 on."""
        first, last = "".join(self._first), "".join(self._last)
        if not self._dropped and len(first) + len(last) <= most:
            return first + last
        half = most // 2
        dropped = self._dropped + len(first) + len(last) - most
        end = last if len(last) >= half else first + last
        return first[:half] + _left_out(dropped) + end[-half:]


def _left_out(characters: int) -> str:
    return f"\n[… {characters} characters left out …]\n"
