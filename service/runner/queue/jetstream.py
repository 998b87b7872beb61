"""The run queue of many servers: a work-queue stream of JetStream.

A message is a run in one epoch, and has a subject of its own, so that JetStream refuses a second
one. Each group has a consumer, which is made when runs of it are taken and goes when none are. Runs
that are one server's first are a group, too, into which the others look later. What NATS does not
take because it is away waits in this server's memory, for this server.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from functools import partial
from typing import Any, NamedTuple, TypeVar

import orjson
import structlog
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType

from service.runner.connection import Away
from service.runner.jetstream import NOT_STORED, JetStream, Refused, token
from service.runner.queue.groups import Groups
from service.runner.queue.memory import MemoryQueue
from service.runner.queue.queue import QueueClosed
from storage.sessions import FIRST_SECONDS

log = structlog.get_logger(__name__)

T = TypeVar("T")

HOLD_SECONDS = 6.0
"""Seconds after which what was taken is delivered again, unless its taker is heard of."""

DELIVERIES = 20
"""How often a run is delivered at most. Then its reconciliation goes by the database alone."""

IDLE_SECONDS = 60
"""Seconds after which a group's consumer goes that nobody has taken runs from."""

PUT_SECONDS = 10.0
"""Seconds for which a run that was put is not put again: the reconcilers do, each second."""

FIRST = "first-"
"""What the groups of runs begin with that are one server's first."""

ACK, RETURN, BUSY = b"+ACK", b"-NAK", b"+WPI"


class _Taken(NamedTuple):
    """A run that was delivered."""

    run_id: str
    group: str
    subject: str
    reply: str
    """Where it is acknowledged."""
    deliveries: int
    more: bool
    """Whether others of its group may wait."""


class JetStreamQueue:
    """A RunQueue that all servers of a service share."""

    def __init__(
        self,
        nats: JetStream,
        server: str,
        *,
        takes: bool = True,
        lifetime: float = 600.0,
        stream_bytes: int = 64 * 2**20,
    ) -> None:
        """Is the queue of `server`, of which there is but one.

        Keeps runs in a stream of `stream_bytes`, each for its `lifetime` at most. Unless it
        `takes`, runs are put alone: it learns of none that wait.
        """
        self._nats = nats
        self._takes = takes
        self._local = MemoryQueue(server, takes=takes)
        self._me = token(server)
        self._subject = f"{nats.prefix}.runs"
        self._hints = f"{nats.prefix}.waiting"
        """Where servers tell each other of groups that have runs."""
        self._groups = Groups(self._wake)
        self._held: dict[str, list[_Taken]] = {}
        """What was taken and is not acknowledged, by run."""
        self._put: OrderedDict[str, float] = OrderedDict()
        """When messages were put, by subject; the oldest stand first."""
        self._acknowledging: dict[str, asyncio.Task[None]] = {}
        """What the stream is being told that it need not keep, by subject."""
        self._waiting: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False
        self._stream = nats.add_stream(
            "runs",
            subjects=[f"{self._subject}.*.*.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=1,
            max_age=lifetime,
            max_bytes=stream_bytes,
            storage=StorageType.FILE,
        )
        nats.when_up(lambda lost: self._start(self._find()))

    async def open(self) -> None:
        """Learns what waits, and keeps alive from now on what is taken."""
        if not self._takes:
            return
        await self._nats.subscribe(self._hints, self._receive_hint)
        await self._find()
        self._keeping = asyncio.create_task(self._keep_alive(), name="runs that are held")

    async def put(self, run_id: str, epoch: int, group: str, *, server: str | None = None) -> None:
        """Adds a run to the stream, unless that has it in this epoch."""
        if self._closed:
            return
        whose = token(group) if server is None else f"{FIRST}{token(server)}"
        subject = f"{self._subject}.{whose}.{token(run_id)}.{epoch}"
        now = asyncio.get_running_loop().time()
        while self._put and now - next(iter(self._put.values())) > PUT_SECONDS:
            self._put.popitem(last=False)
        if subject in self._put:
            return
        if (telling := self._acknowledging.get(subject)) is not None:
            # Until then, the stream still has it, and takes no second one.
            await asyncio.wait([telling])
        try:
            await self._nats.publish(subject, run_id.encode())
        except Refused as error:
            if error.code != NOT_STORED:
                log.warning("run not queued", run_id=run_id, code=error.code)
                await self._put_locally(run_id, epoch, group, server)
                return
        except Away:
            await self._put_locally(run_id, epoch, group, server)
            return
        self._put[subject] = now
        await self._hint(whose)

    @property
    def empty(self) -> bool:
        """Whether this server knows of no run that waits."""
        return not self._groups and self._local.empty

    async def ready(self) -> None:
        """Waits until this server hears of a run that waits."""
        while self.empty or self._closed:
            if self._closed:
                raise QueueClosed
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    async def take(self) -> str | None:
        """Takes the next run from the stream, if there still is one."""
        if self._closed:
            raise QueueClosed
        if not self._local.empty:
            return await self._local.take()
        while self._groups and not self._closed:
            group, heard = self._groups.next()
            fetching = self._start(self._fetch(group, heard))
            try:
                taken = await asyncio.shield(fetching)
            except asyncio.CancelledError:
                fetching.add_done_callback(self._give_back)
                raise
            if taken is None:
                continue
            if taken.more:
                self._note(group, heard=False)
            if taken.deliveries < DELIVERIES:
                self._held.setdefault(taken.run_id, []).append(taken)
            else:
                await self._nats.tell(taken.reply, ACK)
            return taken.run_id
        return None

    async def acknowledge(self, run_id: str) -> None:
        """Removes the run from the stream. In the same epoch, it may be put again from now on."""
        for taken in self._held.pop(run_id, []):
            self._put.pop(taken.subject, None)
            telling = self._start(self._nats.confirm(taken.reply, ACK))
            self._acknowledging[taken.subject] = telling
            telling.add_done_callback(partial(self._acknowledged, taken.subject))

    def _acknowledged(self, subject: str, telling: asyncio.Task[None]) -> None:
        if self._acknowledging.get(subject) is telling:
            del self._acknowledging[subject]

    async def close(self) -> None:
        """Gives back what was not acknowledged, and wakes those who wait."""
        self._closed = True
        self._wake()
        if self._keeping is not None:
            self._keeping.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._groups.close()
        for taken in self._held.values():
            for each in taken:
                await self._return(each)
        await self._nats.unsubscribe(self._hints)
        await self._local.close()

    async def _put_locally(self, run_id: str, epoch: int, group: str, server: str | None) -> None:
        await self._local.put(run_id, epoch, group, server=server)
        self._wake()
        # If it is another server's first, it waits from then on.
        asyncio.get_running_loop().call_later(FIRST_SECONDS, self._wake)

    async def _fetch(self, group: str, heard: bool) -> _Taken | None:
        """Takes the oldest run of a group, if one waits. One that was heard of may come later."""
        try:
            answer = await self._nats.next_message(self._stream, group)
            if answer is None:
                await self._make_consumer(group)
                answer = await self._nats.next_message(self._stream, group)
        except Away:
            # All groups are looked for when NATS is there again.
            return None
        if (answer is None or heard) and not self._closed:
            self._groups.add_later(group, heard=answer is None)
        if answer is None or "Status" in (answer.headers or {}):
            return None
        about = answer.metadata
        # Where one was given back, there may be others, which are not counted as pending.
        more = about.num_pending > 0 or about.num_delivered > 1
        return _Taken(
            answer.data.decode(), group, answer.subject, answer.reply, about.num_delivered, more
        )

    async def _find(self) -> None:
        """Looks for groups of which there are runs, whoever holds them."""
        self._put.clear()
        if not self._takes:
            return
        try:
            answer = await self._nats.request(
                f"STREAM.INFO.{self._stream}", {"subjects_filter": ">"}
            )
        except Away:
            return
        if answer is not None:
            subjects = orjson.loads(answer.data).get("state", {}).get("subjects") or {}
            for subject in subjects:
                self._note(subject.removeprefix(f"{self._subject}.").split(".")[0])

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(HOLD_SECONDS / 3)
            for taken in [each for held in self._held.values() for each in held]:
                await self._nats.tell(taken.reply, BUSY)

    async def _make_consumer(self, group: str) -> None:
        name, filter = group, f"{self._subject}.{group}.*.*"
        config = {
            "durable_name": name,
            "filter_subject": filter,
            "ack_policy": "explicit",
            "ack_wait": int(HOLD_SECONDS * 1e9),
            "max_deliver": DELIVERIES,
            "max_ack_pending": -1,
            "inactive_threshold": IDLE_SECONDS * 10**9,
            "mem_storage": True,
        }
        answer = await self._nats.request(
            f"CONSUMER.CREATE.{self._stream}.{name}.{filter}",
            {"stream_name": self._stream, "config": config},
        )
        if answer is not None and (error := orjson.loads(answer.data).get("error")):
            log.warning("runs not taken", group=group, error=error.get("description"))

    def _give_back(self, fetching: asyncio.Task[_Taken | None]) -> None:
        """Gives back what was taken for somebody who does not want it any more."""
        if not fetching.cancelled() and (taken := fetching.result()) is not None:
            self._start(self._return(taken))

    async def _return(self, taken: _Taken) -> None:
        await self._nats.tell(taken.reply, RETURN)
        await self._hint(taken.group)

    async def _hint(self, group: str) -> None:
        """Has all servers know that a group may have a run that waits."""
        if self._takes and not self._closed:
            self._note(group)
        await self._nats.tell(self._hints, f"{self._me} {group}".encode())

    def _receive_hint(self, message: Msg) -> None:
        sender, group = message.data.decode().split()
        if sender != self._me:
            self._note(group)

    def _note(self, group: str, *, heard: bool = True) -> None:
        """Takes in that a group may have a run that waits; another server's, a while later."""
        add = partial(self._groups.add, group, heard=heard)
        if group.startswith(FIRST) and group != f"{FIRST}{self._me}":
            asyncio.get_running_loop().call_later(FIRST_SECONDS, add)
        else:
            add()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
