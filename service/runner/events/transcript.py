"""What a stream has shown so far.

Storage does not have the text of a message before its end. Where its writer cannot end it (its
thread is deleted, its worker is dead), only the stream's transcript has the text so far; and
clients fail on a message that ends with less than its deltas.
"""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.runner.events import build
from service.types.content import annotation_in_message
from service.types.events import Event


@dataclass(slots=True)
class _Part:
    """A text or a refusal, piece by piece: joined once, however long it gets. Or an image."""

    type: str
    pieces: list[str] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    image: dict[str, Any] | None = None

    def add(self, delta: dict[str, Any]) -> None:
        match self.type:
            case "refusal":
                self.pieces.append(delta["refusal"])
            case "text":
                self.pieces.append(delta["text"]["value"])
                self.annotations += delta["text"].get("annotations", [])
            case _:
                self.image = delta[self.type]

    def content(self) -> dict[str, Any]:
        whole = "".join(self.pieces)
        if self.type == "refusal":
            return {"type": "refusal", "refusal": whole}
        if self.image is not None:
            return {"type": self.type, self.type: self.image}
        annotations = [annotation_in_message(each) for each in self.annotations]
        return {"type": "text", "text": {"value": whole, "annotations": annotations}}


class Transcript:
    """The steps and messages that one stream has shown, and the texts of those still open."""

    def __init__(self, *, whole: bool = True) -> None:
        """Starts empty; `whole` is whether its first event will be the first of a run."""
        self.whole = whole
        """Whether it has all that the run has begun since `resumed`."""
        self.run: Event | None = None
        """The event that showed the run last."""
        self.open: dict[str, Event] = {}
        """What has begun and not ended: the event that showed it last, by its id."""
        self.ended: set[str] = set()
        """The ids of what has ended."""
        self.resumed: str | None = None
        """The step that was shown with its tool outputs only: another stream has what is older."""
        self._parts: dict[str, dict[int, _Part]] = defaultdict(dict)

    def add(self, event: Event) -> Event:
        """Adds the stream's next event and returns it, with the text so far if it lacks it."""
        if build.shows_run(event):
            self.run = event
        if event.id is None:
            return event
        state = event.name.rpartition(".")[2]
        if state != "delta":
            self._track(event, event.id, state)
        match event.name:
            case "thread.message.delta":
                self._add_text(event.id, event.data)
            case "thread.message.completed":
                self._parts.pop(event.id, None)
            case "thread.message.incomplete" if parts := self._parts.pop(event.id, None):
                return _with_text(event, parts)
        return event

    def texts(self, message_id: str) -> dict[int, str]:
        """Returns the text so far, or the refusal, of each part of an open message."""
        parts = self._parts.get(message_id, {})
        return {index: "".join(part.pieces) for index, part in parts.items()}

    def _track(self, event: Event, id: str, state: str) -> None:
        if state in ("created", "in_progress"):
            self.open[id] = event
            return
        if self.open.pop(id, None) is None and state == "completed" and _has_calls(event):
            self.resumed, self.whole = id, True
        self.ended.add(id)

    def _add_text(self, message_id: str, data: bytes) -> None:
        parts = self._parts[message_id]
        for piece in orjson.loads(data)["delta"]["content"]:
            if (part := parts.get(piece["index"])) is None:
                part = parts[piece["index"]] = _Part(piece["type"])
            part.add(piece)


def _has_calls(event: Event) -> bool:
    return build.shows_step(event) and orjson.loads(event.data)["type"] == "tool_calls"


def _with_text(event: Event, parts: dict[int, _Part]) -> Event:
    """Returns the end of a message with these parts, unless it has its own."""
    shown = orjson.loads(event.data)
    if shown["content"]:
        return event
    shown["content"] = [parts[index].content() for index in sorted(parts)]
    return dataclasses.replace(event, data=orjson.dumps(shown))
