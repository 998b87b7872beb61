"""The sessions of all threads: one per thread, some at once, none for too long."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from service.sandbox.folder import Folder
from service.sandbox.limits import Lifetimes
from service.sandbox.port import End, Event, Sandbox, Session, SessionClosed, Text

log = structlog.get_logger(__name__)

SWEEP = 15.0
"""Seconds between two looks for sessions that are idle, or old."""

REMEMBERED = 10_000
"""Threads whose session has ended and of whom it is known why."""


@dataclass(eq=False, slots=True)
class _Slot:
    """What there is of a thread. Present as long as it has, starts or wants a session."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the call that runs."""

    session: Session | None = None
    starting: bool = False
    users: int = 0
    """Calls that run or wait for their turn."""

    opened: float = 0.0
    used: float = 0.0


class Sessions:
    """Runs code of threads, each in a session of its own, which it opens and closes.

    It owns the sessions. All methods are for the event loop of the main thread.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        lifetimes: Lifetimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts nothing yet."""
        self.sandbox = sandbox
        self._lifetimes = lifetimes
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._changed = asyncio.Condition()
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Starts the background task that closes what is idle or old."""
        self._sweeper = asyncio.create_task(self._sweeping(), name="sandbox sessions")
        self._sweeper.add_done_callback(_report)

    async def close(self) -> None:
        """Closes all sessions; their files are kept, and calls that run raise SessionClosed."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        await asyncio.gather(*(self.end(thread) for thread in list(self._slots)))

    @property
    def open_sessions(self) -> int:
        """How many sessions are open or being opened."""
        return sum(slot.session is not None or slot.starting for slot in self._slots.values())

    def folder(self, thread: str) -> Folder:
        """Returns a thread's files."""
        return self.sandbox.folder(thread)

    async def run(self, thread: str, code: str) -> AsyncGenerator[Event, None]:
        """Runs code in the thread's session, opened if need be, and yields what Session.run does.

        The calls of a thread run one after the other. Where too many sessions are open, the idlest
        is closed; where none is idle, the call waits. Where the session before was lost between
        calls, a text that says so comes first. Raises Unavailable, and SessionClosed when the
        session is closed during the call. Who stops before End closes the iterator.
        """
        slot = self._slots.setdefault(thread, _Slot())
        slot.users += 1
        try:
            async with slot.turn:
                if slot.session is not None and slot.session.lost is not None:
                    await self._drop(thread, slot, slot.session.lost)
                if slot.session is None:
                    reason = self._ended.pop(thread, None)
                    await self._open(thread, slot)
                    if reason is not None:
                        yield Text(_note(reason))
                assert slot.session is not None
                told = False
                async with aclosing(slot.session.run(code)) as events:
                    async for event in events:
                        told = isinstance(event, End) and event.lost is not None
                        yield event
                if told:
                    await self._drop(thread, slot, None)
        finally:
            slot.users -= 1
            slot.used = self._clock()
            if slot.session is None and not slot.users and self._slots.get(thread) is slot:
                del self._slots[thread]
            async with self._changed:
                self._changed.notify_all()

    async def end(self, thread: str, reason: str = "it was closed") -> None:
        """Closes a thread's session, if it has one; code that runs is killed. Files are kept."""
        slot = self._slots.get(thread)
        if slot is not None and slot.session is not None:
            await self._drop(thread, slot, reason)

    async def forget(self, thread: str) -> None:
        """Closes a thread's session and removes its files."""
        await self.end(thread)
        slot = self._slots.get(thread)
        if slot is None:
            await self.sandbox.forget(thread)
        else:
            async with slot.turn:
                await self.end(thread)
                await self.sandbox.forget(thread)
        self._ended.pop(thread, None)

    async def sweep(self) -> None:
        """Closes the sessions that have been idle, or open, for too long."""
        now, lifetimes = self._clock(), self._lifetimes
        for thread, slot in list(self._slots.items()):
            if slot.session is None or slot.users:
                continue
            if slot.session.lost is not None:
                await self._drop(thread, slot, slot.session.lost)
            elif now - slot.used >= lifetimes.idle_seconds:
                await self._drop(thread, slot, "it was idle for too long")
            elif now - slot.opened >= lifetimes.age_seconds:
                await self._drop(thread, slot, "it was open for too long")

    async def _open(self, thread: str, slot: _Slot) -> None:
        async with self._changed:
            while self.open_sessions >= self._lifetimes.sessions:
                if not await self._evict():
                    await self._changed.wait()
            if self._closed:
                raise SessionClosed("the server stops")
            slot.starting = True
        try:
            slot.session = await self.sandbox.open(thread)
        finally:
            slot.starting = False
        slot.opened = slot.used = self._clock()
        if self._closed:
            await self._drop(thread, slot, None)
            raise SessionClosed("the server stops")

    async def _evict(self) -> bool:
        """Closes the idlest session. Returns whether there was one that runs nothing."""
        idle = [
            (slot.used, thread, slot)
            for thread, slot in self._slots.items()
            if slot.session is not None and not slot.users
        ]
        if not idle:
            return False
        _, thread, slot = min(idle, key=lambda each: each[0])
        log.info("sandbox session evicted", thread=thread)
        await self._drop(thread, slot, "others needed its place")
        return True

    async def _drop(self, thread: str, slot: _Slot, reason: str | None) -> None:
        """Closes a session; keeps the reason for the thread's next call, if it is to be told."""
        session, slot.session = slot.session, None
        if not slot.users and self._slots.get(thread) is slot:
            del self._slots[thread]
        if reason is not None:
            self._ended[thread] = reason
            self._ended.move_to_end(thread)
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
        if session is not None:
            await session.close()

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await self.sweep()


def _note(reason: str) -> str:
    return (
        f"[The Python session was started anew, as the one before has ended: {reason}. Variables "
        "and imports are gone, files in /mnt/data are kept.]\n"
    )


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("sandbox sessions are no longer closed", exc_info=error)
