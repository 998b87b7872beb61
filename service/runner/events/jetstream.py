"""The event bus of many servers: a stream of JetStream, and the logs that this server needs of it.

What is stored is sent again to the servers that follow the run: those that have readers of it and
have not published last. A server that NATS is away from counts alone, for its own readers, and
stores what it has published as soon as NATS is there again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog
from nats.aio.msg import Msg

from service.runner.events.bus import Kept, Stop
from service.runner.events.memory import MemoryBus
from service.runner.events.place import Place
from service.runner.events.shared_logs import SharedLogs
from service.runner.jetstream import JetStream, Stored, token
from service.types.events import Event
from storage import ids

log = structlog.get_logger(__name__)

T = TypeVar("T")

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
        self._me = ids.new_id("server")
        self._local = MemoryBus(keep_seconds=keep_seconds, max_bytes=max_bytes)
        self._logs = SharedLogs(
            nats,
            self._local,
            self._me,
            self._taken,
            keep_seconds=keep_seconds + lifetime,
            max_bytes=stream_bytes,
        )
        self._places: OrderedDict[str, Place] = OrderedDict()
        """By run. The one that was used last stands last."""
        self._tasks = set[asyncio.Task[Any]]()
        self._closed = False
        self._stops = f"{nats.prefix}.stops"
        self._takeovers = f"{nats.prefix}.takeovers"
        """Where a server says that it has published after another one."""
        nats.when_up(self._catch_up)

    async def open(self) -> None:
        """Receives from now on what servers tell each other."""
        await self._nats.subscribe(self._stops, self._receive_stop)
        await self._nats.subscribe(self._takeovers, self._receive_takeover)

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
        await self._nats.tell(self._stops, f"{self._me} {reason} {run_id}".encode())

    def subscribe_stops(self, receive: Callable[[str, Stop], None]) -> None:
        """Adds a subscriber."""
        self._local.subscribe_stops(receive)

    async def close(self) -> None:
        """Ends what is being published, then all subscriptions."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._local.close()
        followed = [place.live for place in self._places.values() if place.followed]
        for subject in (self._stops, self._takeovers, *followed):
            await self._nats.unsubscribe(subject)

    def add_reader(self, run_id: str) -> Place:
        """Has the run's log kept up with the stream, for one reader more."""
        place = self._enter(run_id)
        place.readers += 1
        if not place.mine:
            self._follow(place)
        return place

    def remove_reader(self, place: Place) -> None:
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
        place = self._enter(run_id)
        try:
            async with place.turn:
                return await self._logs.publish(place, epoch, events, last)
        finally:
            self._leave(place)

    async def _read(self, place: Place, *, anew: bool = False) -> None:
        async with place.turn:
            await self._logs.load(place, anew=anew)

    def _taken(self, place: Place, here: bool) -> None:
        """Takes in that another server has published last, or this one after another."""
        if here:
            self._start(self._nats.tell(self._takeovers, f"{self._me} {place.run_id}".encode()))
        if place.readers:
            self._follow(place)

    def _receive_takeover(self, message: Msg) -> None:
        sender, run_id = message.data.decode().split(" ", 1)
        place = self._places.get(run_id)
        if sender != self._me and place is not None:
            place.mine = False
            if place.readers:
                self._follow(place)

    def _follow(self, place: Place) -> None:
        if not place.followed and not self._closed:
            place.followed = True
            self._start(self._begin_following(place))

    async def _begin_following(self, place: Place) -> None:
        await self._nats.subscribe(place.live, partial(self._receive, place))
        await self._read(place)

    async def _end_following(self, place: Place) -> None:
        async with place.turn:
            if not place.readers:
                place.followed = False
                await self._nats.unsubscribe(place.live)

    def _receive(self, place: Place, message: Msg) -> None:
        """Takes a message that has just been stored."""
        headers = message.headers or {}
        sequence, before = (int(headers[f"Nats-{name}Sequence"]) for name in ("", "Last-"))
        taken = self._logs.receive(place, Stored(sequence, message.data), before)
        if not taken and not self._closed:
            self._start(self._read(place))

    def _receive_stop(self, message: Msg) -> None:
        sender, reason, run_id = message.data.decode().split(" ", 2)
        if sender != self._me:
            self._start(self._local.publish_stop(run_id, Stop(reason)))

    def _catch_up(self, lost: bool) -> None:
        """Takes in what was stored while NATS was away, and stores what was not."""
        for place in self._places.values():
            if lost:
                place.lose()
            if place.readers or self._logs.lacks(place):
                self._start(self._exchange(place))

    async def _exchange(self, place: Place) -> None:
        async with place.turn:
            await self._logs.load(place)
            while not await self._logs.store_lacking(place):
                await self._logs.load(place)

    def _enter(self, run_id: str) -> Place:
        """Returns the run's place, for a user more."""
        place = self._places.get(run_id)
        if place is None:
            place = self._places[run_id] = self._logs.place(run_id, token(run_id))
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
    """A reader of this server's log of a run."""

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
            self._place = self._bus.add_reader(self._run_id)
        if not self._filled:
            await self._bus.fill(self._place, self._after)
            self._filled = True
        return await self._source.take(seconds)

    async def aclose(self) -> None:
        """Leaves the log."""
        await self._source.aclose()
        if self._place is not None:
            self._bus.remove_reader(self._place)
            self._place = None
