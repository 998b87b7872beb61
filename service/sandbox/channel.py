"""The child's process and its three pipes: frames out, requests in, last words."""

import asyncio
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import orjson

from service.process.child import describe, dying_with_parent
from service.sandbox import processes
from service.sandbox.frames import BadFrame, Frame, parse
from service.sandbox.port import Text

WAITING = 4 * 1024**2
"""Bytes of frames that may wait here to be taken; then the child has to wait."""

TOGETHER = 1000
"""Texts that are taken as one, if they have come."""

LAST_SECONDS = 1.0
"""Seconds that a child may take to end after it has closed its output."""

LAST_WORDS = 4000
"""Bytes of the child's error output that are kept."""


class Closed(Exception):
    """No frames come any more."""


class Channel:
    """A running child. Its owner stops it."""

    def __init__(self, process: subprocess.Popen[bytes], most: int) -> None:
        self._process = process
        self._frames = _Frames(most)
        self._words = _Words()
        self._input: asyncio.WriteTransport | None = None
        self._reaping = asyncio.Lock()
        self._held: Frame | BadFrame | None = None
        """What came behind texts that were taken."""

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        most: int,
        pass_fds: Sequence[int] = (),
    ) -> "Channel":
        """Starts a child, which the kernel kills with the server. For the main thread.

        `most` is the size of the longest frame in bytes. Raises OSError.
        """
        # subprocess itself, as it uses vfork here; uvloop would fork, with gRPC's threads about.
        process = subprocess.Popen(  # noqa: ASYNC220
            dying_with_parent(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd="/",
            pass_fds=pass_fds,
        )
        channel = cls(process, most)
        try:
            await channel._connect()
        except BaseException:
            await channel.stop()
            raise
        return channel

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        process = self._process
        await loop.connect_read_pipe(lambda: self._frames, process.stdout)
        await loop.connect_read_pipe(lambda: self._words, process.stderr)
        self._input, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._process.pid

    @property
    def pending(self) -> bool:
        """Whether something has come that nobody has taken."""
        return self._held is not None or self._frames.pending

    def send(self, **fields: object) -> None:
        """Sends a request. What a dead child does not take is lost."""
        if self._input is not None and not self._input.is_closing():
            self._input.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def send_line(self, line: bytes) -> None:
        """Sends a line that is no request."""
        if self._input is not None:
            self._input.write(line + b"\n")

    async def take(self) -> Frame:
        """Returns the next frame: texts that have come together are one.

        Raises Closed, BadFrame. May be cancelled and called again.
        """
        frame, self._held = self._held, None
        if frame is None:
            frame = _parsed(await self._frames.take())
        if isinstance(frame, Text):
            texts = [frame.text]
            while self._frames.ready and len(texts) < TOGETHER:
                following = _parsed(await self._frames.take())
                if not isinstance(following, Text):
                    self._held = following
                    break
                texts.append(following.text)
            return Text("".join(texts))
        if isinstance(frame, BadFrame):
            raise frame
        return frame

    @property
    def closed(self) -> bool:
        """Whether the child has ended, or has closed its output."""
        return self._frames.closed

    async def last_words(self) -> str:
        """Returns how the child ended and what it said last, for the log and the operator."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._reap()
                await self._words.closed.wait()
        except TimeoutError:
            pass
        code = self._process.returncode
        status = "it closed its output" if code is None else describe(code)
        lines = self._words.data.decode(errors="replace").strip().splitlines()
        return f"{lines[-1]} ({status})" if lines else status

    def kill(self) -> None:
        """Kills the child and all that it has started. Blocks for a moment."""
        processes.kill(self.pid)
        # Its pid is its own as long as nobody has waited for it.
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Kills the child and closes the pipes. Stopping twice does no harm."""
        async with self._reaping:
            if self._process.returncode is None:
                await asyncio.to_thread(self.kill)
        await self._reap()
        process = self._process
        for transport, pipe in (
            (self._frames.transport, process.stdout),
            (self._words.transport, process.stderr),
            (self._input, process.stdin),
        ):
            if transport is not None:  # It owns the pipe.
                transport.close()
            elif pipe is not None:
                pipe.close()

    async def _reap(self) -> None:
        """Waits for the child's end."""
        async with self._reaping:
            if self._process.returncode is None:
                await processes.ended(self.pid)
                self._process.wait()


def _parsed(line: bytes) -> Frame | BadFrame:
    try:
        return parse(line)
    except BadFrame as error:
        return error


class _Frames(asyncio.Protocol):
    """Splits what the child says into lines, and makes it wait when nobody takes them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        self._waiting = 0
        self.closed = False
        self._too_long = False
        self._paused = False
        self._arrived = asyncio.Event()
        self.transport: asyncio.ReadTransport | None = None

    @property
    def pending(self) -> bool:
        return bool(self._lines or self._parts or self._too_long)

    @property
    def ready(self) -> bool:
        return bool(self._lines)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, and not the class.
        self.transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._part(line)
            whole = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._lines.append(whole)
            self._waiting += len(whole)
        self._part(rest)
        if (self._waiting > WAITING or self._too_long) and not self._paused:
            self._paused = True
            cast(asyncio.ReadTransport, self.transport).pause_reading()
        self._arrived.set()

    def _part(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
            self._too_long |= self._size > self._most

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._arrived.set()

    async def take(self) -> bytes:
        while not self._lines:
            if self._too_long:
                raise BadFrame("too long")
            if self.closed:
                raise Closed
            self._arrived.clear()
            await self._arrived.wait()
        line = self._lines.popleft()
        self._waiting -= len(line)
        if self._paused and self._waiting <= WAITING and not self.closed and not self._too_long:
            self._paused = False
            cast(asyncio.ReadTransport, self.transport).resume_reading()
        return line


class _Words(asyncio.Protocol):
    """Keeps the last of what a child writes to its error output."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = asyncio.Event()
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data = (self.data + data)[-LAST_WORDS:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
