"""The logs of runs that several servers write: each in a stream, and in this server's memory.

Each run has a subject. Whoever publishes says which message of the subject is the last that it
knows, and JetStream refuses what does not follow that one: so all servers count as one.
"""

from collections.abc import Callable

import structlog
from nats.js.api import RePublish, StorageType

from service.runner.connection import Away
from service.runner.events.memory import MemoryBus
from service.runner.events.place import Place
from service.runner.events.portions import Portion, pack
from service.runner.jetstream import JetStream, Refused, Stored
from service.types.events import Event

log = structlog.get_logger(__name__)

FOLLOWS = "Nats-Expected-Last-Subject-Sequence"
WRONG_LAST = {10071, 10164}
"""The errors of a message that does not follow the last one of its subject; the second, in a
cluster, where that one is not stored everywhere yet.
"""


class SharedLogs:
    """Writes and reads runs' logs. Whoever calls holds the turn of the run's place."""

    def __init__(
        self,
        nats: JetStream,
        local: MemoryBus,
        me: str,
        taken: Callable[[Place, bool], None],
        *,
        keep_seconds: float,
        max_bytes: int,
    ) -> None:
        """Keeps each message for `keep_seconds` in a stream of `max_bytes`, and in `local`.

        `me` is this server's name among all. Calls `taken` with a place whose last message changes
        hands, and whether that was stored here.
        """
        self._nats = nats
        self._local = local
        self._me = me
        self._taken = taken
        self._stored = f"{nats.prefix}.events"
        self._live = f"{nats.prefix}.live"
        self._stream = nats.add_stream(
            "events",
            subjects=[f"{self._stored}.*"],
            max_age=keep_seconds,
            max_bytes=max_bytes,
            storage=StorageType.FILE,
            allow_direct=True,
            republish=RePublish(src=f"{self._stored}.*", dest=self._live + ".{{wildcard(1)}}"),
        )

    def place(self, run_id: str, token: str) -> Place:
        """Returns the place of a run of which nothing is known here."""
        return Place(run_id, f"{self._stored}.{token}", f"{self._live}.{token}")

    async def publish(
        self, place: Place, epoch: int, events: tuple[Event, ...], last: int | None
    ) -> tuple[int, bool]:
        """Publishes if no event has a number above `last`, or that is None.

        Returns the first number, and whether it has.
        """
        run_id = place.run_id
        if last is not None or not events:
            await self.load(place)
        while True:
            if epoch < place.epoch:
                return self._local.next_number(run_id, epoch), False
            if await self.store_lacking(place):
                # From here on, nothing comes in between of number and request.
                portion = self._numbered(run_id, epoch, events)
                if last is not None and portion.after > last:
                    return portion.after + 1, False
                if not events:
                    return self._local.next_number(run_id, epoch), True
                if await self._store(place, portion):
                    place.epoch = epoch
                    self._local.mirror(run_id, [portion])
                    return events[0].number, True
            await self.load(place)

    async def store_lacking(self, place: Place) -> bool:
        """Stores what could not be stored when it was published.

        Returns False when others have published meanwhile.
        """
        lacking, whole = self._local.above(place.run_id, place.sent)
        if not lacking:
            return True
        after = place.sent if whole else lacking[0].number - 1
        return await self._store(place, Portion(self._me, place.epoch, after, lacking))

    async def load(self, place: Place, *, anew: bool = False) -> None:
        """Brings the log up to the stream; `anew` from the beginning of what that has."""
        if not self._nats.up:
            return
        anew = anew or not self._has_events(place)
        after = place.sequence
        try:
            # The last one that is known shows that the stream is still the same, and has it.
            found = [] if anew else await self._messages(place, after - 1)
            if anew or not found or found[0].sequence != after:
                anew, found = True, await self._messages(place, 0)
                if not found:
                    place.sequence = 0
                elif found[-1].sequence < after:
                    place.lose()
        except Away:
            return
        if not anew:
            found = [message for message in found if message.sequence > place.sequence]
        self._take(place, found, anew=anew)

    def receive(self, place: Place, message: Stored, before: int) -> bool:
        """Takes a message that has just been stored, after that of number `before`.

        Returns False when it is not the next one: then the log is to be loaded.
        """
        if message.sequence <= place.sequence:
            return True
        if before != place.sequence or not (before == 0 or self._has_events(place)):
            return False
        self._take(place, [message])
        return True

    def lacks(self, place: Place) -> bool:
        """Returns whether the stream lacks something that the log has."""
        return bool(self._local.above(place.run_id, place.sent)[0])

    def _numbered(self, run_id: str, epoch: int, events: tuple[Event, ...]) -> Portion:
        kept = self._local.bounds(run_id)
        for number, event in enumerate(events, self._local.next_number(run_id, epoch)):
            event.number = number
        return Portion(self._me, epoch, 0 if kept is None else kept.last, [*events])

    async def _store(self, place: Place, portion: Portion) -> bool:
        """Stores a portion, if NATS is there; returns whether its numbers are right."""
        follows = place.sequence
        changes_hands = follows > 0 and not place.mine
        if not self._nats.up:
            return True
        for part in pack(portion, self._nats.most):
            try:
                headers = {FOLLOWS: str(follows)}
                follows = await self._nats.publish(place.subject, part, headers)
            except Away:
                return True
            except Refused as error:
                if error.code in WRONG_LAST:
                    return False
                log.warning("events not stored", run_id=place.run_id, code=error.code)
                return True
        if follows >= place.sequence:
            place.sequence, place.mine = follows, True
        place.sent = max(place.sent, portion.last)
        if changes_hands:
            self._taken(place, True)
        return True

    async def _messages(self, place: Place, after: int) -> list[Stored]:
        return await self._nats.stored(self._stream, place.subject, after)

    def _take(self, place: Place, messages: list[Stored], *, anew: bool = False) -> None:
        """Takes messages of the stream into the log."""
        kept = self._local.bounds(place.run_id)
        if portions := place.advance(messages, 0 if kept is None else kept.last, self._me):
            self._local.mirror(place.run_id, portions, anew=anew)
            if not place.mine:
                self._taken(place, False)

    def _has_events(self, place: Place) -> bool:
        return bool(self._local.above(place.run_id, 0)[0])
