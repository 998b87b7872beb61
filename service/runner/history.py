"""The messages of a run's thread as turns, read from the newest backwards as far as needed."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import orjson

from service.models import sizes
from service.models.sizes import Size
from storage.claims import Claim, Claims, Saved
from storage.conversation import Context
from storage.rows import Message

FIRST_PORTION = 100
"""Messages that are read at first. Most threads are not longer, and most models take no more."""

LARGEST_PORTION = 1000
"""Messages that are read in one go. Each portion is twice as large as the last until then."""

Earlier = Callable[[Message, int], Awaitable[list[Message]]]
"""Reads up to so many messages that come right before one, oldest first."""


class History:
    """What a model may be shown of a run, its thread's turns counted from the newest."""

    def __init__(self, context: Context, earlier: Earlier, left: int | None = None) -> None:
        """Begins with what `context` has; `left` is how many more messages may be read, if any."""
        self.context = context
        self.least: int | None = None
        """How many turns the newest of a user is the first of; None while none has been read."""
        self.whole = left == 0
        """Whether there is no more to read."""
        self._earlier = earlier
        self._left = left
        self._portion = FIRST_PORTION
        self._oldest: Message | None = None
        self._turns: list[dict[str, Any]] = []
        self._texts: list[str] = []
        # Plain tuples of numbers: the garbage collector does not look through them again and again.
        self._sizes = [tuple(Size())]
        self._bytes = [0]
        self._show(context.messages)

    @classmethod
    async def begin(cls, claims: Claims, claim: Claim) -> Self:
        """Reads the first portion of what a run's model may read, unless its claim has it all."""
        run = claim.run
        most: int | None = run.truncation_strategy["last_messages"]
        limit = FIRST_PORTION if most is None else min(most, FIRST_PORTION)

        async def earlier(before: Message, limit: int) -> list[Message]:
            return await claims.earlier(run, before, limit)

        if claim.context is not None:
            return cls(claim.context, earlier, 0)
        context = await claims.context(run, limit)
        left = None if most is None else most - limit
        return cls(context, earlier, 0 if len(context.messages) < limit else left)

    def add(self, saved: Saved) -> None:
        """Adds a turn that the run has stored since."""
        self.context.steps.extend(saved.steps)
        if saved.message is not None:
            self.context.step_messages[saved.message.id] = saved.message

    def __len__(self) -> int:
        """Returns how many turns have been read."""
        return len(self._turns)

    async def question(self) -> str:
        """Returns the text of the newest message of the user; empty where there is none."""
        while self.least is None and await self.extend():
            pass
        if self.least is None:
            return ""
        content = self._turns[self.least - 1]["content"]
        if isinstance(content, str):
            return content
        return "\n".join(part["text"] for part in content if part["type"] == "text")

    def newest(self, count: int) -> list[dict[str, Any]]:
        """Returns the newest turns that were read, oldest first."""
        return self._turns[:count][::-1]

    def texts(self, count: int) -> list[str]:
        """Returns the texts of the newest turns that were read, oldest first."""
        return self._texts[: self.size(count).texts][::-1]

    def size(self, count: int) -> Size:
        """Returns the size of the newest turns that were read."""
        return Size(*self._sizes[count])

    def bytes(self, count: int) -> int:
        """Returns the bytes of the newest turns that were read, as JSON."""
        return self._bytes[count]

    async def extend(self) -> bool:
        """Reads the next portion; returns whether there was one."""
        if self.whole or self._oldest is None:
            return False
        self._portion = limit = min(2 * self._portion, LARGEST_PORTION)
        if self._left is not None:
            limit = min(limit, self._left)
            self._left -= limit
        found = await self._earlier(self._oldest, limit)
        self._show(found)
        self.whole = len(found) < limit or self._left == 0
        return True

    def _show(self, earlier: list[Message]) -> None:
        for row in reversed(earlier):
            turn = turn_of(row, cited=False)
            if not turn["content"]:
                continue
            self._turns.append(turn)
            self._texts += reversed(sizes.texts([turn]))
            self._sizes.append(tuple(self.size(-1).plus(sizes.of_turns([turn]))))
            self._bytes.append(self._bytes[-1] + len(orjson.dumps(turn)))
            if self.least is None and turn["role"] == "user":
                self.least = len(self._turns)
        if earlier:
            self._oldest = earlier[0]


def turn_of(message: Message, *, cited: bool = True) -> dict[str, Any]:
    """Returns a message as a turn; its content is empty where there is nothing to send.

    Without what it has `cited`, it has no marks: those of another run's results mean nothing.
    So it is where an answer was broken off by a crash, and where a model wrote nothing but blanks:
    servers refuse an empty turn, and would refuse it in every later run of the thread.
    """
    content = message.content if cited else map(_without_marks, message.content)
    parts = list(filter(None, map(_part, content)))
    if message.role == "user" and any(part["type"] != "text" for part in parts):
        return {"role": "user", "content": parts}
    # Plain text is what every server understands; an assistant's turn cannot hold images.
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return {"role": message.role, "content": "\n".join(texts)}


def _without_marks(part: Mapping[str, Any]) -> Mapping[str, Any]:
    match part:
        case {"type": "text", "text": {"value": str(value), "annotations": [*annotations]}}:
            for each in reversed(annotations):
                if each["type"] == "file_citation":
                    value = value[: each["start_index"]] + value[each["end_index"] :]
            return {"type": "text", "text": {"value": value}}
        case _:
            return part


def _part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns a part of a message as models read it; None where there is nothing to read."""
    match part:
        case {"type": "text", "text": {"value": str(text)}} | {"type": "refusal", "refusal": text}:
            return {"type": "text", "text": text} if text.strip() else None
        case {"type": ("image_url" | "image_file") as kind}:
            return {"type": kind, kind: part[kind]}
        case _:
            return None
