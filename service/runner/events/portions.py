"""Events on their way between servers: what is published at once is one portion, a message or more.

A message is a line of JSON, then data of events, one after the other. A portion that is longer than
a message may be is cut into parts.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from service.types.events import Event


class Portion(NamedTuple):
    """Numbered events of one run that were published at once."""

    server: str
    """Who has published them."""
    epoch: int
    after: int
    """The number before them: 0, or that of the event which the stream has before the first."""
    events: list[Event]

    @property
    def last(self) -> int:
        """The last event's number."""
        return self.events[-1].number


def pack(portion: Portion, most: int) -> list[bytes]:
    """Returns the portion in parts of `most` bytes each, and a short line."""
    head = {
        "server": portion.server,
        "epoch": portion.epoch,
        "after": portion.after,
        "events": [
            (event.number, event.name, event.id, event.extensions, len(event.data))
            for event in portion.events
        ],
    }
    whole = b"\n".join([orjson.dumps(head), b"".join([event.data for event in portion.events])])
    count = -(-len(whole) // most)
    return [
        b"%d %d\n%b" % (part, count, whole[part * most : (part + 1) * most])
        for part in range(count)
    ]


@dataclass(slots=True)
class Parts:
    """Puts the portions of one run together again, from messages in the order of the stream."""

    _parts: list[bytes] = field(default_factory=list)

    def add(self, message: bytes) -> Portion | None:
        """Takes the next message; returns the portion that is whole with it.

        A portion that another one came in between of was given up, and is published again.
        """
        line, part = message.split(b"\n", 1)
        index, count = map(int, line.split())
        if index == 0:
            self._parts.clear()
        if index != len(self._parts):
            self._parts.clear()
            return None
        self._parts.append(part)
        if index + 1 < count:
            return None
        whole = self._parts[0] if count == 1 else b"".join(self._parts)
        self._parts.clear()
        return _unpack(whole)


def _unpack(whole: bytes) -> Portion:
    line, data = whole.split(b"\n", 1)
    head = orjson.loads(line)
    events, start = [], 0
    for number, name, id, extensions, length in head["events"]:
        piece = data[start : start + length]
        events.append(Event(name, piece, id, extensions, number))
        start += length
    return Portion(head["server"], head["epoch"], head["after"], events)
