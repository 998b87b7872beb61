"""What a stream has told of messages in the making, for those that are ended from outside.

Storage does not have the text of a message before its end. Where its writer cannot end it (its
thread is deleted, its worker is dead), the text so far is known to those only who heard it; and
clients fail on a message that ends with less than its deltas.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from assistants.v1 import events_pb2, messages_pb2

RunEvent = events_pb2.RunEvent


@dataclass(slots=True)
class _Part:
    """A text or a refusal, piece by piece: joined once, however long it gets."""

    refused: bool
    pieces: list[str] = field(default_factory=list)

    def content(self) -> messages_pb2.MessageContent:
        whole = "".join(self.pieces)
        if self.refused:
            return messages_pb2.MessageContent(refusal=whole)
        return messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value=whole))


class Said:
    """The texts of one stream's unfinished messages."""

    def __init__(self) -> None:
        """Has heard nothing yet."""
        self._parts: dict[str, dict[int, _Part]] = defaultdict(dict)

    def hear(self, event: RunEvent) -> RunEvent:
        """Takes the stream's next event and returns it, with the text so far if it lacks it."""
        match event.event:
            case "thread.message.delta":
                self._add(event.message_delta)
            case "thread.message.completed":
                self._parts.pop(event.message.id, None)
            case "thread.message.incomplete":
                parts = self._parts.pop(event.message.id, {})
                if not event.message.content:
                    event.message.content.extend(parts[index].content() for index in sorted(parts))
        return event

    def _add(self, delta: events_pb2.MessageDelta) -> None:
        parts = self._parts[delta.id]
        for piece in delta.content:
            refused = piece.WhichOneof("part") == "refusal"
            part = parts.setdefault(piece.index, _Part(refused))
            part.pieces.append(piece.refusal if refused else piece.text.value)
