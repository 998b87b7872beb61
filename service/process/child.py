"""A child process of the server (Envoy, the embedded model): started, watched, restarted, stopped.

The child dies with the server, however that ends: a launcher asks the kernel for it
(`PR_SET_PDEATHSIG`) and then becomes the program, so the child's pid is the program's. It is a
fresh process, because nothing of ours may run between fork and exec: gRPC has threads.
"""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import structlog

log = structlog.get_logger(__name__)

FIRST_DELAY = 0.1
"""Seconds before the first restart. Each further one waits twice as long, MAX_DELAY at most."""

MAX_DELAY = 5.0

STEADY = 30.0
"""Seconds that a child must have lived for its next restart to count as a first one."""

POLL = 0.05
"""Seconds between two looks at whether a starting child is ready."""

MAX_LINE = 2000
"""Bytes of a line of output that are kept."""

LAST_WORDS = 1.0
"""Seconds that the output of a dead child may take to arrive."""

# Runs as `python -c LAUNCHER <pid of the server> <program> <argument>...`. If the server died
# before prctl was called, no signal comes any more: hence the look at the parent. Its own session
# keeps the terminal's Ctrl-C from the child. Python ignores SIGPIPE, and exec would pass that on.
LAUNCHER = """
import ctypes, os, signal, sys
parent, argv = int(sys.argv[1]), sys.argv[2:]
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
    sys.exit("cannot ask to die with the server")
if os.getppid() != parent:
    sys.exit("the server is gone")
os.setsid()
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    sys.exit(f"cannot run {argv[0]}: {error.strerror}")
"""


def dying_with_parent(argv: Sequence[str]) -> list[str]:
    """Returns the command line for a child of the calling process that the kernel kills with it.

    To be started by the main thread. The child's pid is the program's, and it leads a session of
    its own.
    """
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *argv]


class ChildError(Exception):
    """A child could not be started; the message is one line."""


class Child:
    """One supervised process.

    `argv` is the program, looked up in PATH, and its arguments. `ready` says whether the program
    can serve yet; it is asked again and again while the child starts, and OSError counts as a no.
    What it writes is logged, but for its stdout with `shares_stdout`: that is the server's. With
    `logs`, it logs by itself as the server does. `environment` is added to the server's.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        ready: Callable[[], Awaitable[bool]],
        environment: Mapping[str, str] = MappingProxyType({}),
        logs: bool = False,
        shares_stdout: bool = False,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._environment = environment
        self._logs = logs
        self._ready = ready
        self._shares_stdout = shares_stdout
        self._process: _Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The running process; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self, timeout: float = 30) -> None:
        """Starts the child and waits until it is ready; from then on it is restarted when it dies.

        Must be called in the main thread, where the event loop runs: the kernel kills the child
        when the *thread* that created it ends. Raises ChildError if the program cannot be run, ends
        before it is ready, or is not ready after `timeout` seconds; then no process is left.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._start()
        except TimeoutError:
            last = self._last_line()
            await self.stop()
            raise ChildError(f"{self.name} was not ready after {timeout:g} s{last}") from None
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name=f"child {self.name}")
        self._supervisor.add_done_callback(self._unwatched)

    async def _start(self) -> None:
        log.debug("starting child", child=self.name, argv=shlex.join(self._argv))
        try:
            self._process = await self._spawn()
        except OSError as error:
            raise ChildError(f"{self.name} cannot be started: {error.strerror}") from error
        ended = asyncio.ensure_future(self._process.wait())
        ready = asyncio.ensure_future(self._until_ready())
        try:
            await asyncio.wait([ended, ready], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                status = describe(ended.result())
                last = self._last_line()
                raise ChildError(f"{self.name} ended before it was ready ({status}){last}")
            ready.result()
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)

    async def _spawn(self) -> "_Process":
        environment = os.environ | self._environment
        return await _Process.spawn(
            self.name,
            self._argv,
            environment,
            shares_stdout=self._shares_stdout,
            logs=self._logs,
        )

    async def _until_ready(self) -> None:
        while True:
            with suppress(OSError):
                if await self._ready():
                    return
            await asyncio.sleep(POLL)

    def _last_line(self) -> str:
        last = self._process.last_line if self._process else ""
        return f": {last}" if last else ""

    async def stop(self, timeout: float = 5) -> None:
        """Ends the child: SIGTERM, and SIGKILL if it is still there after `timeout` seconds.

        When this returns, no process of the child's group is left. Stopping twice does no harm.
        """
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        process, self._process = self._process, None
        if process is None:
            return
        process.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            log.warning("killing child that does not stop", child=self.name, pid=process.pid)
            process.send(signal.SIGKILL)
            await process.wait()

    async def _supervise(self) -> None:
        """Restarts the child whenever it dies, at growing intervals."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while self._process is not None:
            started = loop.time()
            pid, status = self._process.pid, describe(await self._process.wait())
            if loop.time() - started >= STEADY:
                delay = FIRST_DELAY
            log.error("child died", child=self.name, pid=pid, status=status, restart_in=delay)
            while True:
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_DELAY)
                try:
                    self._process = await self._spawn()
                    break
                except OSError as error:
                    log.error("cannot restart child", child=self.name, error=error.strerror)
            log.info("child restarted", child=self.name, pid=self._process.pid)

    def _unwatched(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.critical("child is no longer watched", child=self.name, exc_info=error)


def describe(returncode: int) -> str:
    """Returns how a process ended: `exit code 1` or `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # Most real-time signals have no name.
        return f"signal {-returncode}"


class _Process:
    """One life of a child. `wait` may be cancelled and called again."""

    def __init__(self, popen: subprocess.Popen[bytes], output: "_Output | None") -> None:
        self._popen = popen
        self._output = output
        self.pid = popen.pid

    @classmethod
    async def spawn(
        cls,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        shares_stdout: bool,
        logs: bool,
    ) -> "_Process":
        # subprocess itself, as it uses vfork here; uvloop would fork, with gRPC's threads about.
        popen = subprocess.Popen(  # noqa: ASYNC220
            dying_with_parent(argv),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=None if logs or shares_stdout else subprocess.PIPE,
            stderr=None if logs else subprocess.PIPE if shares_stdout else subprocess.STDOUT,
        )
        if logs:
            return cls(popen, None)
        try:
            loop = asyncio.get_running_loop()
            logged = popen.stderr if shares_stdout else popen.stdout
            transport, output = await loop.connect_read_pipe(lambda: _Output(name), logged)
        except BaseException:
            popen.kill()
            popen.wait()
            raise
        output.transport = transport
        return cls(popen, output)

    @property
    def last_line(self) -> str:
        return self._output.last if self._output else ""

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    async def wait(self) -> int:
        """Waits for the end, also of what is left of the process's group. Returns the exit code."""
        if self._popen.returncode is None:
            await _ended(self.pid)
            # Until it is reaped, its pid names no other group.
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()
        if self._output is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._output.closed.wait()
            self._output.close()
        return self._popen.returncode


async def _ended(pid: int) -> None:
    """Waits until the process is dead, without reaping it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    fd = os.pidfd_open(pid)
    try:
        loop.add_reader(fd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


class _Output(asyncio.Protocol):
    """Logs a child's output line by line as it comes, so that the child never waits for us."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self.transport: asyncio.BaseTransport | None = None
        self.last = ""
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE]
        for line in lines:
            self._line(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line(self._rest)
        self._rest = b""
        self.closed.set()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _line(self, line: bytes) -> None:
        text = line[:MAX_LINE].decode(errors="replace").strip()
        if text:
            self.last = text
            log.info("output", child=self._name, line=text)
