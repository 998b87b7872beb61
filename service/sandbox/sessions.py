"""The sessions of all threads: one per thread, some at once, none for too long."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from service.process import metrics
from service.sandbox.folder import Folder
from service.sandbox.limits import Lifetimes
from service.sandbox.port import (
    End,
    Error,
    Event,
    Register,
    Sandbox,
    Session,
    SessionClosed,
    Text,
)

log = structlog.get_logger(__name__)

SWEEP = 15.0
"""Seconds between two looks for sessions that are idle, or old."""

ENDED = "ended"
"""The note of how a thread's session has ended, or would if nothing more were said; none: it was
told."""

IDLE, OLD, EVICTED, CLOSED, STOPPED, LOST = "idle", "old", "evicted", "closed", "stopped", "lost"
ELSEWHERE = "elsewhere"
WHY = {
    IDLE: "it was idle for too long",
    OLD: "it was open for too long",
    EVICTED: "others needed its place",
    CLOSED: "it was closed",
    STOPPED: "the server was stopped",
    ELSEWHERE: "another server has run code meanwhile",
}
"""Why sessions end, other than by what their code has done, and what threads are told of it."""

AWAY = "it is on another server"
"""What a thread is told of the session before where that server has left no word of it here."""

OUTCOMES = ("completed", "error", "interrupted", "lost", "given_up")
"""How calls end."""

# What has not happened is 0, and not missing.
for each in (*WHY, LOST):
    metrics.INTERPRETER_SESSION_ENDS.labels(each)
for each in OUTCOMES:
    metrics.INTERPRETER_CALLS.labels(each)


@dataclass(eq=False, slots=True)
class _Slot:
    """What there is of a thread. Present as long as it has, starts or wants a session."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the call that runs."""

    session: Session | None = None
    id: str = ""
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
        register: Register,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts nothing yet."""
        self.sandbox = sandbox
        self._register = register
        self._lifetimes = lifetimes
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
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
        await asyncio.gather(*(self.end(thread, STOPPED) for thread in list(self._slots)))

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
        is closed; where none is idle, the call waits. Where the session before has ended other than
        in a call, also with the server, a text that says so comes first; so it does where another
        server has opened a newer one, or had the one before. Raises Unavailable, what the register
        raises, and SessionClosed when the session is closed during the call. Who stops before End
        closes the iterator.
        """
        slot = self._slots.setdefault(thread, _Slot())
        slot.users += 1
        try:
            async with slot.turn:
                why = None
                if slot.session is not None:
                    if slot.session.lost is not None:
                        why = LOST
                    elif not await self._register.is_newest(thread, slot.id):
                        why = ELSEWHERE
                if why is not None:
                    await self._drop(thread, slot, why)
                if slot.session is None:
                    ended = self.folder(thread).note(ENDED)
                    if why == ELSEWHERE:
                        ended = WHY[ELSEWHERE]
                    if await self._open(thread, slot):
                        ended = ended or AWAY
                    if ended is not None:
                        yield Text(_note(ended))
                assert slot.session is not None
                lost = False
                async with aclosing(_measured(slot.session.run(code))) as events:
                    async for event in events:
                        lost = isinstance(event, End) and event.lost is not None
                        yield event
                if lost:
                    await self._drop(thread, slot, LOST, told=True)
        finally:
            slot.users -= 1
            slot.used = self._clock()
            if slot.session is None and not slot.users and self._slots.get(thread) is slot:
                del self._slots[thread]
            async with self._changed:
                self._changed.notify_all()

    async def end(self, thread: str, why: str = CLOSED) -> None:
        """Closes a thread's session, if it has one; code that runs is killed. Files are kept."""
        slot = self._slots.get(thread)
        if slot is not None and slot.session is not None:
            await self._drop(thread, slot, why)

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

    async def sweep(self) -> None:
        """Closes the sessions that have been idle, or open, for too long."""
        now, lifetimes = self._clock(), self._lifetimes
        for thread, slot in list(self._slots.items()):
            if slot.session is None or slot.users:
                continue
            if slot.session.lost is not None:
                await self._drop(thread, slot, LOST)
            elif now - slot.used >= lifetimes.idle_seconds:
                await self._drop(thread, slot, IDLE)
            elif now - slot.opened >= lifetimes.age_seconds:
                await self._drop(thread, slot, OLD)

    async def _open(self, thread: str, slot: _Slot) -> bool:
        """Opens a session; returns whether another server had one, whose state is lost."""
        async with self._changed:
            while self.open_sessions >= self._lifetimes.sessions:
                if not await self._evict():
                    await self._changed.wait()
            if self._closed:
                raise SessionClosed("the server stops")
            slot.starting = True
        try:
            with metrics.INTERPRETER_START_SECONDS.time():
                session = await self.sandbox.open(thread)
            try:
                slot.id = secrets.token_hex(8)
                lost = await self._register.opened(thread, slot.id)
            except BaseException:
                await session.close()
                raise
            slot.session = session
        finally:
            slot.starting = False
        metrics.INTERPRETER_SESSIONS.inc()
        metrics.INTERPRETER_STATE_LOST.inc(lost)
        self.folder(thread).set_note(ENDED, WHY[STOPPED])
        slot.opened = slot.used = self._clock()
        if self._closed:
            await self._drop(thread, slot, STOPPED)
            raise SessionClosed("the server stops")
        return lost

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
        await self._drop(thread, slot, EVICTED)
        return True

    async def _drop(self, thread: str, slot: _Slot, why: str, *, told: bool = False) -> None:
        """Closes a session; keeps why for the thread's next call, unless it was told."""
        session, slot.session, id = slot.session, None, slot.id
        if not slot.users and self._slots.get(thread) is slot:
            del self._slots[thread]
        if session is not None:
            metrics.INTERPRETER_SESSIONS.dec()
            metrics.INTERPRETER_SESSION_ENDS.labels(why).inc()
            ended = None if told else WHY.get(why, session.lost)
            await session.close()
            if await self._register.closed(thread, id):
                self.folder(thread).set_note(ENDED, ended)

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await self.sweep()


async def _measured(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Yields the events of a call, and counts how it ends."""
    outcome, begin = "given_up", time.monotonic()
    error = False
    try:
        async with aclosing(events):
            async for event in events:
                error |= isinstance(event, Error)
                if isinstance(event, End):
                    outcome = "error" if error else "completed"
                    if event.lost is not None or event.interrupted:
                        outcome = "lost" if event.lost is not None else "interrupted"
                yield event
    finally:
        metrics.INTERPRETER_CALLS.labels(outcome).inc()
        metrics.INTERPRETER_CALL_SECONDS.observe(time.monotonic() - begin)


def _note(ended: str) -> str:
    return (
        f"[The Python session was started anew, as the one before has ended: {ended}. Variables "
        "and imports are gone, files in /mnt/data are kept.]\n"
    )


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("sandbox sessions are no longer closed", exc_info=error)
