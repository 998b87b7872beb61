"""What a stream has told so far: for what is ended from outside, and for what it did not hear of.

Storage does not have the text of a message before its end. Where its writer cannot end it (its
thread is deleted, its worker is dead), the text so far is known to those only who heard it; and
clients fail on a message that ends with less than its deltas.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from assistants.v1 import events_pb2, messages_pb2, run_objects_pb2

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
    """The steps and messages that one stream has told, and the texts of those unfinished."""

    def __init__(self, *, whole: bool = True) -> None:
        """Has heard nothing yet; `whole` is whether it is to hear a run from its beginning."""
        self.whole = whole
        """Whether all that the run has begun since `resumed` was heard."""
        self.run: run_objects_pb2.Run | None = None
        """The run as it was told last."""
        self.open: dict[str, RunEvent] = {}
        """What has begun and not ended, by id, each as it was told last."""
        self.ended: set[str] = set()
        """The ids of what has ended."""
        self.resumed: str | None = None
        """The step whose tool outputs came, but not its calls: what is older was told elsewhere."""
        self._parts: dict[str, dict[int, _Part]] = defaultdict(dict)

    def hear(self, event: RunEvent) -> RunEvent:
        """Takes the stream's next event and returns it, with the text so far if it lacks it."""
        match event.WhichOneof("data"):
            case "run":
                self.run = event.run
            case "run_step":
                self._track(event, event.run_step.id)
            case "message":
                self._track(event, event.message.id)
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

    def texts(self, message_id: str) -> dict[int, str]:
        """Returns the text so far, or the refusal, of each part of an unfinished message."""
        parts = self._parts.get(message_id, {})
        return {index: "".join(part.pieces) for index, part in parts.items()}

    def _track(self, event: RunEvent, id: str) -> None:
        name = event.event.rpartition(".")[2]
        if name in ("created", "in_progress"):
            self.open[id] = event
            return
        if self.open.pop(id, None) is None and name == "completed" and _has_calls(event):
            self.resumed, self.whole = id, True
        self.ended.add(id)

    def _add(self, delta: events_pb2.MessageDelta) -> None:
        parts = self._parts[delta.id]
        for piece in delta.content:
            refused = piece.WhichOneof("part") == "refusal"
            part = parts.setdefault(piece.index, _Part(refused))
            part.pieces.append(piece.refusal if refused else piece.text.value)


def _has_calls(event: RunEvent) -> bool:
    return event.HasField("run_step") and event.run_step.HasField("tool_calls")
