"""What a stream has told of messages in the making, for those that are ended from outside.

Storage does not have the text of a message before its end. Where its writer cannot end it (its
thread is deleted, its worker is dead), the text so far is known to those only who heard it; and
clients fail on a message that ends with less than its deltas.
"""

from collections import defaultdict

from assistants.v1 import events_pb2, messages_pb2

RunEvent = events_pb2.RunEvent


class Said:
    """The texts of one stream's unfinished messages."""

    def __init__(self) -> None:
        """Has heard nothing yet."""
        self._texts: dict[str, dict[int, messages_pb2.MessageContent]] = defaultdict(dict)

    def hear(self, event: RunEvent) -> RunEvent:
        """Takes the stream's next event and returns it, with the text so far if it lacks it."""
        match event.event:
            case "thread.message.delta":
                self._add(event.message_delta)
            case "thread.message.completed":
                self._texts.pop(event.message.id, None)
            case "thread.message.incomplete":
                parts = self._texts.pop(event.message.id, {})
                if not event.message.content and parts:
                    # A copy: other streams are given the same event.
                    whole = RunEvent()
                    whole.CopyFrom(event)
                    whole.message.content.extend(part for _, part in sorted(parts.items()))
                    return whole
        return event

    def _add(self, delta: events_pb2.MessageDelta) -> None:
        parts = self._texts[delta.id]
        for piece in delta.content:
            part = parts.setdefault(piece.index, messages_pb2.MessageContent())
            if piece.WhichOneof("part") == "refusal":
                part.refusal += piece.refusal
            else:
                part.text.value += piece.text.value
