"""The event bus of many servers: a stream of JetStream, and the logs that this server needs of it.

Each run has a subject. Whoever publishes says which message of the subject is the last that it
knows, and JetStream refuses what does not follow that one: so all servers count as one. What is
stored is sent again to the servers that have readers of the run. A server that NATS is away from
counts alone, for its own readers, and stores what it has published as soon as NATS is there again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog
from nats.aio.msg import Msg
from nats.js.api import RePublish, StorageType

from service.runner.events.bus import Kept, Stop
from service.runner.events.memory import MemoryBus
from service.runner.events.place import Place
from service.runner.events.portions import Portion, pack
from service.runner.jetstream import Away, JetStream, Refused, Stored, token
from service.types.events import Event
from storage import ids

log = structlog.get_logger(__name__)

T = TypeVar("T")

FOLLOWS = "Nats-Expected-Last-Subject-Sequence"
WRONG_LAST = 10071
"""The error of a message that does not follow the last one of its subject."""

IDLE_PLACES = 2**14
"""Runs whose place in the stream is remembered though nothing is done with them."""


class JetStreamBus:
    """An EventBus that all servers of a service share."""

    def __init__(
        self,
        nats: JetStream,
        *,
        keep_seconds: float = 600.0,
        lifetime: float = 0.0,
        max_bytes: int = 64 * 2**20,
        stream_bytes: int = 256 * 2**20,
    ) -> None:
        """Keeps logs in memory as MemoryBus does, and all runs of all servers in `stream_bytes`.

        There, a message stays for `keep_seconds` beyond the `lifetime` of runs.
        """
        self._nats = nats
        self._local = MemoryBus(keep_seconds=keep_seconds, max_bytes=max_bytes)
        self._me = ids.new_id("server").encode()
        self._places: OrderedDict[str, Place] = OrderedDict()
        """By run. The one that was used last stands last."""
        self._tasks = set[asyncio.Task[Any]]()
        self._closed = False
        self._stops = f"{nats.prefix}.stops"
        stored = f"{nats.prefix}.events.*"
        self._stream = nats.add_stream(
            "events",
            subjects=[stored],
            max_age=keep_seconds + lifetime,
            max_bytes=stream_bytes,
            storage=StorageType.FILE,
            allow_direct=True,
            republish=RePublish(src=stored, dest=f"{nats.prefix}.live.{{{{wildcard(1)}}}}"),
        )
        nats.when_up(self._catch_up)

    async def open(self) -> None:
        """Receives stops from now on."""
        await self._nats.subscribe(self._stops, self._receive_stop)

    async def publish(self, run_id: str, epoch: int, *events: Event) -> int:
        """Stores the events in the stream, and keeps them. Waits for NATS as long as it is there.

        If its caller is cancelled meanwhile, they are published all the same.
        """
        first, _ = await asyncio.shield(self._start(self._publish(run_id, epoch, events, None)))
        return first

    async def publish_if_last(self, last: int, run_id: str, epoch: int, *events: Event) -> bool:
        """Publishes, unless the stream or the log has later events."""
        _, done = await asyncio.shield(self._start(self._publish(run_id, epoch, events, last)))
        return done

    def subscribe(self, run_id: str, after: int) -> "_Reader":
        """Returns a reader of this server's log, which follows the stream meanwhile."""
        return _Reader(self, self._local, run_id, after)

    async def kept(self, run_id: str) -> Kept | None:
        """Returns the bounds of the log, once it has what the stream has."""
        place = self._enter(run_id)
        try:
            await self._read(place)
        finally:
            self._leave(place)
        return self._local.bounds(run_id)

    async def publish_stop(self, run_id: str, reason: Stop) -> None:
        """Calls the subscribers of this server, and sends it to all others."""
        await self._local.publish_stop(run_id, reason)
        await self._nats.tell(self._stops, b" ".join([self._me, reason.encode(), run_id.encode()]))

    def subscribe_stops(self, receive: Callable[[str, Stop], None]) -> None:
        """Adds a subscriber."""
        self._local.subscribe_stops(receive)

    async def close(self) -> None:
        """Ends what is being published, then all subscriptions."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._local.close()
        await self._nats.unsubscribe(self._stops)
        for place in self._places.values():
            await self._nats.unsubscribe(place.live)

    def follow(self, run_id: str) -> Place:
        """Has the run's log follow the stream from soon on, for one reader more."""
        place = self._enter(run_id)
        place.readers += 1
        if not place.followed and not self._closed:
            place.followed = True
            self._start(self._begin_following(place))
        return place

    def unfollow(self, place: Place) -> None:
        """Ends that for one reader."""
        place.readers -= 1
        self._leave(place)
        if place.followed and not place.readers and not self._closed:
            self._start(self._end_following(place))

    async def fill(self, place: Place, after: int) -> None:
        """Reads the run's log from the stream, if it has not what comes after number `after`."""
        kept = self._local.bounds(place.run_id)
        if kept is None or after < kept.after:
            await self._read(place, anew=True)

    async def _publish(
        self, run_id: str, epoch: int, events: tuple[Event, ...], last: int | None
    ) -> tuple[int, bool]:
        """Publishes if no event has a number above `last`, or that is None.

        Returns the first number, and whether it has.
        """
        place = self._enter(run_id)
        try:
            async with place.turn:
                if last is not None or not events:
                    await self._load(place)
                while True:
                    if epoch < place.epoch:
                        return self._local.next_number(run_id, epoch), False
                    if await self._store_lacking(place):
                        # From here on, nothing comes in between of number and request.
                        portion = self._numbered(run_id, epoch, events)
                        if last is not None and portion.after > last:
                            return portion.after + 1, False
                        if not events or await self._store(place, portion):
                            place.epoch = epoch
                            break
                    await self._load(place)
                if not events:
                    return self._local.next_number(run_id, epoch), True
                self._local.mirror(run_id, [portion])
                return events[0].number, True
        finally:
            self._leave(place)

    def _numbered(self, run_id: str, epoch: int, events: tuple[Event, ...]) -> Portion:
        kept = self._local.bounds(run_id)
        for number, event in enumerate(events, self._local.next_number(run_id, epoch)):
            event.number = number
        return Portion(epoch, 0 if kept is None else kept.last, [*events])

    async def _store_lacking(self, place: Place) -> bool:
        """Stores what could not be stored when it was published; returns as `_store`."""
        lacking, whole = self._local.above(place.run_id, place.sent)
        if not lacking:
            return True
        after = place.sent if whole else lacking[0].number - 1
        return await self._store(place, Portion(place.epoch, after, lacking))

    async def _store(self, place: Place, portion: Portion) -> bool:
        """Stores a portion, if NATS is there; returns whether its numbers are right."""
        follows = place.sequence
        if not self._nats.up:
            return True
        for part in pack(portion, self._nats.most):
            try:
                headers = {FOLLOWS: str(follows)}
                follows = await self._nats.publish(place.subject, part, headers)
            except Away:
                return True
            except Refused as error:
                if error.code == WRONG_LAST:
                    return False
                log.warning("events not stored", run_id=place.run_id, code=error.code)
                return True
        place.sequence = max(place.sequence, follows)
        place.sent = max(place.sent, portion.last)
        return True

    async def _read(self, place: Place, *, anew: bool = False) -> None:
        """Brings the log up to the stream; `anew` from the beginning of what that has."""
        async with place.turn:
            await self._load(place, anew=anew)

    async def _load(self, place: Place, *, anew: bool = False) -> None:
        if not self._nats.up:
            return
        anew = anew or not self._has_events(place)
        after = place.sequence
        try:
            # The last one that is known shows that the stream is still the same, and has it.
            found = [] if anew else await self._stored(place, after - 1)
            if anew or not found or found[0].sequence != after:
                anew, found = True, await self._stored(place, 0)
                if not found:
                    place.sequence = 0
                elif found[-1].sequence < after:
                    place.lose()
        except Away:
            return
        if not anew:
            found = [message for message in found if message.sequence > place.sequence]
        self._take(place, found, anew=anew)

    async def _stored(self, place: Place, after: int) -> list[Stored]:
        return await self._nats.stored(self._stream, place.subject, after)

    def _take(self, place: Place, messages: list[Stored], *, anew: bool = False) -> None:
        """Takes messages of the stream into the log."""
        kept = self._local.bounds(place.run_id)
        if portions := place.advance(messages, 0 if kept is None else kept.last):
            self._local.mirror(place.run_id, portions, anew=anew)

    def _has_events(self, place: Place) -> bool:
        return bool(self._local.above(place.run_id, 0)[0])

    def _receive(self, place: Place, message: Msg) -> None:
        """Takes a message that has just been stored."""
        headers = message.headers or {}
        sequence, before = (int(headers[f"Nats-{name}Sequence"]) for name in ("", "Last-"))
        if sequence <= place.sequence or self._closed:
            return
        if before == place.sequence and (before == 0 or self._has_events(place)):
            self._take(place, [Stored(sequence, message.data)])
        else:
            self._start(self._read(place))

    def _receive_stop(self, message: Msg) -> None:
        sender, reason, run_id = message.data.split(b" ", 2)
        if sender != self._me:
            self._start(self._local.publish_stop(run_id.decode(), Stop(reason.decode())))

    async def _begin_following(self, place: Place) -> None:
        await self._nats.subscribe(place.live, partial(self._receive, place))
        await self._read(place)

    async def _end_following(self, place: Place) -> None:
        async with place.turn:
            if not place.readers:
                place.followed = False
                await self._nats.unsubscribe(place.live)

    def _catch_up(self, lost: bool) -> None:
        """Takes in what was stored while NATS was away, and stores what was not."""
        for place in self._places.values():
            if lost:
                place.lose()
            if place.readers or self._local.above(place.run_id, place.sent)[0]:
                self._start(self._exchange(place))

    async def _exchange(self, place: Place) -> None:
        async with place.turn:
            await self._load(place)
            while not await self._store_lacking(place):
                await self._load(place)

    def _enter(self, run_id: str) -> Place:
        """Returns the run's place, for a user more."""
        place = self._places.get(run_id)
        if place is None:
            subject, prefix = token(run_id), self._nats.prefix
            place = Place(run_id, f"{prefix}.events.{subject}", f"{prefix}.live.{subject}")
            self._places[run_id] = place
        place.users += 1
        self._places.move_to_end(run_id)
        return place

    def _leave(self, place: Place) -> None:
        place.users -= 1
        while len(self._places) > IDLE_PLACES:
            run_id, oldest = next(iter(self._places.items()))
            if not oldest.idle:
                self._places.move_to_end(run_id)
                break
            del self._places[run_id]

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("event bus broke down", exc_info=error)


class _Reader:
    """A reader of this server's log of a run, which it has follow the stream."""

    def __init__(self, bus: JetStreamBus, local: MemoryBus, run_id: str, after: int) -> None:
        self._bus = bus
        self._source = local.subscribe(run_id, after)
        self._run_id = run_id
        self._after = after
        self._place: Place | None = None
        self._filled = False

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns what is ready, or what comes first; nothing after `seconds` of silence."""
        if self._place is None:
            self._place = self._bus.follow(self._run_id)
        if not self._filled:
            await self._bus.fill(self._place, self._after)
            self._filled = True
        return await self._source.take(seconds)

    async def aclose(self) -> None:
        """Leaves the log."""
        await self._source.aclose()
        if self._place is not None:
            self._bus.unfollow(self._place)
            self._place = None
