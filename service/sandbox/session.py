"""A session: one child, its calls, its limits and its end."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from service.sandbox import processes
from service.sandbox.channel import Channel, Closed
from service.sandbox.frames import BadFrame, Done, Ready
from service.sandbox.limits import KIB, MIB, Limits
from service.sandbox.port import End, Error, Event, Image, SessionClosed, Text, Unavailable
from service.sandbox.watch import Watch

log = structlog.get_logger(__name__)

POLL = 0.2
"""Seconds between two looks at what a session uses."""

FREEZE_AFTER = 1.0
"""Seconds after a call until the session is stopped, so that threads it has left use no CPU."""


class Exchange(Protocol):
    """Moves files between the server and a child that runs elsewhere."""

    async def push(self, channel: Channel) -> None:
        """Sends what has changed here since the last call. Raises Closed, BadFrame."""

    async def pull(self, channel: Channel) -> None:
        """Fetches what the call has changed there. Raises Closed, BadFrame, ExchangeFailed."""


class ExchangeFailed(Exception):
    """Files could not be fetched; the message is a clause."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a session's child is started, and what is done with it."""

    argv: Sequence[str]
    env: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    first_line: bytes | None = None
    """What the child is sent before anything else."""

    watch: Watch | None = None
    """Looks at its processes and files, where they are here."""

    exchange: Exchange | None = field(default=None)
    """Moves its files, where they are elsewhere."""


class ChildSession:
    """The Session of every engine."""

    def __init__(self, channel: Channel, launch: Launch, limits: Limits) -> None:
        self.lost: str | None = None
        self._channel = channel
        self._watch = launch.watch
        self._exchange = launch.exchange
        self._limits = limits
        self._calls = 0
        self._calling = False
        self._frozen = False
        self._idle_since = asyncio.get_running_loop().time()
        self._state = asyncio.Lock()
        self._awake = asyncio.Event()
        self._awake.set()
        self._watcher: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, launch: Launch, limits: Limits) -> "ChildSession":
        """Starts the child and waits until it takes calls.

        Must be called in the main thread (see service.process.child). Raises Unavailable; then no
        process is left.
        """
        try:
            channel = await Channel.start(
                launch.argv, env=launch.env, most=limits.frame, pass_fds=launch.pass_fds
            )
        except OSError as error:
            raise Unavailable(f"{launch.argv[0]} cannot be started: {error.strerror}") from error
        session = cls(channel, launch, limits)
        try:
            await session._until_ready(launch.first_line)
        except BaseException:
            await channel.stop()
            raise
        if launch.watch is not None:
            name = f"watch of sandbox {channel.pid}"
            session._watcher = asyncio.create_task(session._watching(), name=name)
        return session

    async def _until_ready(self, first_line: bytes | None) -> None:
        if first_line is not None:
            self._channel.send_line(first_line)
        try:
            async with asyncio.timeout(self._limits.start_seconds):
                frame = await self._channel.take()
        except Closed:
            raise Unavailable(await self._channel.last_words()) from None
        except BadFrame as error:
            raise Unavailable(f"the interpreter's first message is bad: {error}") from None
        except TimeoutError:
            seconds = self._limits.start_seconds
            raise Unavailable(f"the interpreter was not ready after {seconds:g} s") from None
        if not isinstance(frame, Ready):
            raise Unavailable("the interpreter does not say that it is ready")

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._channel.pid

    async def run(self, code: str) -> AsyncGenerator[Event, None]:
        """Runs code. See Session."""
        if self.lost is not None:
            raise SessionClosed(f"the session has ended: {self.lost}")
        if self._calling:
            raise RuntimeError("one call at a time")
        if len(code.encode(errors="replace")) > self._limits.code:
            most = self._limits.code // KIB
            yield Error("ValueError", f"the code is longer than {most} KiB", "")
            yield End()
            return
        self._calling = True
        ended = False
        try:
            await self._thaw()
            async for event in self._call(code):
                ended = isinstance(event, End)
                if ended:
                    self._calling = False
                    self._idle_since = asyncio.get_running_loop().time()
                yield event
        finally:
            self._calling = False
            if not ended:
                await asyncio.shield(self._lose("its call was given up"))

    async def _call(self, code: str) -> AsyncGenerator[Event, None]:
        loop = asyncio.get_running_loop()
        limits = self._limits
        self._calls += 1
        interrupted = False
        size = images = 0
        try:
            if self._exchange is not None:
                await self._exchange.push(self._channel)
            self._channel.send(do="run", id=self._calls, code=code)
            deadline = loop.time() + limits.seconds
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        frame = await self._channel.take()
                except TimeoutError:
                    if interrupted:
                        await self._lose("it went on after the interrupt")
                        break
                    interrupted = True
                    deadline = loop.time() + limits.grace
                    self._channel.send(do="interrupt")
                    continue
                match frame:
                    case Done(id=self._calls):
                        break
                    case Text() | Error():
                        size += _size(frame)
                    case Image():
                        size += _size(frame)
                        images += 1
                        if images > limits.images:
                            continue
                    case _:
                        await self._lose("it sent messages out of turn")
                        break
                if size > limits.output:
                    await self._lose(f"it put out more than {limits.output // MIB} MiB")
                    break
                yield frame
            if images > limits.images:
                yield Text(f"[{images - limits.images} more images are left out]\n")
            if self._exchange is not None and self.lost is None:
                await self._exchange.pull(self._channel)
        except Closed:
            await self._lose(await self._ending())
        except BadFrame as error:
            await self._lose(f"it sent a bad message ({error})")
        except ExchangeFailed as error:
            await self._lose(str(error))
        if self.lost == CLOSED:
            raise SessionClosed("the session was closed during the call")
        yield End(interrupted, self.lost)

    async def _ending(self) -> str:
        return f"its process ended ({await self._channel.last_words()})"

    async def close(self) -> None:
        """Ends the session. See Session."""
        await self._lose(CLOSED)
        if self._watcher is not None and self._watcher is not asyncio.current_task():
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await self._channel.stop()

    async def _lose(self, reason: str) -> None:
        """Ends the child; the first reason counts."""
        if self.lost is None:
            self.lost = reason
            log.debug("sandbox session ended", pid=self.pid, reason=reason)
        self._awake.set()
        await self._channel.stop()

    async def _thaw(self) -> None:
        async with self._state:
            if self._frozen:
                await asyncio.to_thread(processes.thaw, self.pid)
                self._frozen = False
                self._awake.set()

    async def _freeze(self) -> None:
        async with self._state:
            if not self._calling and await asyncio.to_thread(processes.freeze, self.pid):
                self._frozen = True
                self._awake.clear()

    async def _watching(self) -> None:
        """Ends the session when it exceeds a limit, and when it can no longer be told."""
        watch = self._watch
        assert watch is not None
        try:
            while self.lost is None:
                await self._awake.wait()
                await asyncio.sleep(POLL)
                if self.lost is not None:
                    return
                if reason := await asyncio.to_thread(watch.exceeded, self.pid):
                    await self._lose(reason)
                    return
                if not self._calling:
                    await self._look_at_idle()
        except Exception:
            log.exception("sandbox session cannot be watched", pid=self.pid)
            with suppress(OSError):
                await self._lose("the server could not watch it")

    async def _look_at_idle(self) -> None:
        if self._channel.closed:
            await self._lose(await self._ending())
        elif self._channel.pending:
            await self._lose("it sent messages out of turn")
        elif asyncio.get_running_loop().time() - self._idle_since > FREEZE_AFTER:
            await self._freeze()


CLOSED = "it was closed"


def _size(frame: Text | Image | Error) -> int:
    match frame:
        case Text(text):
            return len(text)
        case Image(data=data):
            return len(data)
        case Error(name, value, traceback):
            return len(name) + len(value) + len(traceback)
