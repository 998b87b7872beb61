"""Starts a child for each file and reads the text that it finds."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import structlog

from service.files.parsing import FAILURES, failed
from service.files.parsing.kinds import extension

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What parsing one file may take."""

    memory: int = 2**30
    """Bytes of address space."""
    cpu_seconds: int = 30
    wall_seconds: float = 120.0
    """How long the child may be waited for in all, be it only that the machine is busy."""
    text: int = 64 * 2**20
    """Characters that a file may have."""


MUCH = 0.6
"""The share of its memory that a child held which crashed for want of more."""

LIMITS = Limits()

_MAX_FRAME = 2**24


async def parse(file: BinaryIO, filename: str, limits: Limits = LIMITS) -> AsyncIterator[str]:
    """Yields the text of a file in pieces.

    `file` is one of the operating system's, and is read from its start. Must be called in the main
    thread, where the event loop runs: the child dies with it. Raises ParseFailed, at any piece.
    """
    child = await _Child.start(file, extension(filename), limits)
    waited, size, blank = 0.0, 0, True
    loop = asyncio.get_running_loop()
    try:
        while True:
            begun = loop.time()
            try:
                async with asyncio.timeout(limits.wall_seconds - waited):
                    letter, text = await child.frame()
            except TimeoutError:
                raise failed("too_large") from None
            waited += loop.time() - begun
            match letter:
                case b"T":
                    size += len(text)
                    blank = blank and not text.strip()
                    if size > limits.text:
                        raise failed("too_large")
                    yield text
                case b"L":
                    log.info("a file cannot be parsed", filename=filename, problem=text)
                case b"E" if text in FAILURES:
                    raise failed(text)
                case b"Z" if blank:
                    raise failed("empty")
                case b"Z":
                    return
                case _:
                    raise await child.crashed()
    finally:
        await asyncio.shield(child.stop())


class _Child:
    """A process that parses."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        transport: asyncio.BaseTransport,
        output: asyncio.StreamReader,
        limits: Limits,
    ) -> None:
        self._process = process
        self._transport = transport
        self._output = output
        self._limits = limits
        self._memory = 0

    @classmethod
    async def start(cls, file: BinaryIO, ended: str, limits: Limits) -> "_Child":
        known = ended if ended.isascii() and ended.isalnum() and len(ended) <= 16 else ""
        # subprocess itself, as it uses vfork here; uvloop would fork, with gRPC's threads about.
        process = subprocess.Popen(  # noqa: ASYNC220
            [
                *(sys.executable, "-I", "-m", "service.files.parsing.child"),
                *map(str, (os.getpid(), limits.memory, limits.cpu_seconds)),
                known,
            ],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        output = asyncio.StreamReader()
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(output), process.stdout
            )
        except BaseException:
            process.kill()
            process.wait()
            raise
        return cls(process, transport, output, limits)

    async def frame(self) -> tuple[bytes, str]:
        """Returns the next frame's letter and text; no letter where the child has ended."""
        try:
            head = await self._output.readexactly(5)
            (size,) = struct.unpack(">I", head[1:])
            if size > _MAX_FRAME:
                return b"", ""
            data = await self._output.readexactly(size)
        except asyncio.IncompleteReadError:
            return b"", ""
        return head[:1], data.decode(errors="replace")

    async def crashed(self) -> Exception:
        """Returns the error for a child that has ended without a word."""
        code = await self.stop()
        if code == -signal.SIGXCPU or self._memory > MUCH * self._limits.memory:
            return failed("too_large")
        log.warning("a parser crashed", code=code)
        return failed("damaged" if code < 0 else "internal")

    async def stop(self) -> int:
        """Ends the child, and what it may have started; returns its exit code."""
        self._transport.close()
        if self._process.returncode is None:
            code = await asyncio.to_thread(self._reap)
            self._process.returncode = code
        return self._process.returncode

    def _reap(self) -> int:
        # One that is ending already keeps its own exit code.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._memory = usage.ru_maxrss * 1024
        return os.waitstatus_to_exitcode(status)
