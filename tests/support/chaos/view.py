"""A run as the reader of its stream has it: what the events say, and nothing else."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.rest.resuming import Event


@dataclass
class View:
    """What was read of a run's events so far, on however many connections."""

    last: int = 0
    """The number of the last event: where to go on."""
    run: dict[str, Any] | None = None
    done: bool = False
    """Whether the last event was `done`."""
    lossy: bool = False
    """Whether the server has said that some events are not kept any more."""
    texts: dict[str, str] = field(default_factory=dict)
    """Of each message, by its id, all its deltas."""
    completed: dict[str, str] = field(default_factory=dict)
    """The texts of messages that were completed, as their last event has them."""

    def take(self, event: Event) -> str | None:
        """Takes in an event. Returns what is wrong with it, if anything is."""
        if event.name == "error":
            self.done = False
            return None
        before, self.last = self.last, event.id
        # Read anew behind its end, a stream has that alone.
        again, self.done = self.done, event.name == "done"
        if event.id <= before and not (again and self.done and event.id == before):
            return f"event {event.id} comes after {before}"
        if event.name.startswith("thread.run.") and not event.name.startswith("thread.run.step"):
            self.run = event.data
        elif event.name == "thread.message.created":
            if event.data["id"] in self.texts:
                return f"message {event.data['id']} begins twice"
            self.texts[event.data["id"]] = ""
        elif event.name == "thread.message.delta":
            if event.data["id"] not in self.texts:
                return f"a delta of {event.data['id']}, which has not begun"
            for part in event.data["delta"]["content"]:
                self.texts[event.data["id"]] += part["text"]["value"]
        elif event.name == "thread.message.completed":
            self.completed[event.data["id"]] = text_of(event.data)
        return None


def text_of(message: dict[str, Any]) -> str:
    """Returns a message's text."""
    return "".join(part["text"]["value"] for part in message["content"])
