"""What a server knows of one run's place in the stream of events."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.runner.events.portions import Parts, Portion
from service.runner.jetstream import Stored


@dataclass(slots=True, eq=False)
class Place:
    """How far the log of a run has come along the stream, and who uses it."""

    run_id: str
    subject: str
    """Under which the stream has the run's messages."""
    live: str
    """Under which each of them is sent again once it is stored."""
    sequence: int = 0
    """The last message in the stream that is in the log, too."""
    sent: int = 0
    """The last event in the stream. What the log has above it is to be stored."""
    epoch: int = 0
    """The greatest of which there are events."""
    mine: bool = False
    """Whether that message is this server's, who is told when another one stores the next."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever publishes, or reads the stream."""
    users: int = 0
    readers: int = 0
    followed: bool = False
    """Whether messages are received as they are stored."""
    _parts: Parts = field(default_factory=Parts)

    @property
    def idle(self) -> bool:
        """Whether nobody misses it: it can be made again from the stream."""
        return not (self.users or self.followed)

    def lose(self) -> None:
        """Takes in that the stream has nothing of the run."""
        self.sequence = self.sent = 0

    def advance(self, messages: Iterable[Stored], last: int, me: str) -> list[Portion]:
        """Takes messages of the stream, and returns the portions that are whole with them.

        `last` is the log's last number, `me` this server. What another server has stored in a later
        epoch comes instead of what this one has not been able to store.
        """
        portions = []
        for sequence, data in messages:
            self.sequence = max(self.sequence, sequence)
            portion = self._parts.add(data)
            if portion is None:
                continue
            portions.append(portion)
            self.mine = portion.server == me
            if portion.epoch > self.epoch:
                self.epoch, self.sent = portion.epoch, max(self.sent, last)
            self.sent = max(self.sent, portion.last)
        return portions
