"""The code interpreter: what a session takes to start, to call, and of memory."""

import asyncio
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

from bench.measuring import Bench, Case, Figures
from service.sandbox import environment, processes
from service.sandbox.engines.choose import choose
from service.sandbox.port import End, Sandbox, Session
from service.sandbox.session import ChildSession
from service.sandbox.settings import SandboxSettings

CALLS: Final = 20
LOAD: Final = "import pandas, matplotlib.pyplot"
WORK: Final = "sum(number * number for number in range(100_000))"

PLAIN: Final = f"""
import time
times = []
for _ in range({CALLS}):
    begin = time.perf_counter()
    exec({WORK!r})
    times.append(time.perf_counter() - begin)
print(sorted(times)[{CALLS} // 2])
"""


class SandboxCase:
    """Sessions of the engine that `auto` chooses."""

    def __init__(self, bench: Bench) -> None:
        """Starts nothing: engines are of the event loop that uses them."""
        self._sessions = bench.sizes.sessions
        directory = bench.keep(tempfile.TemporaryDirectory(prefix="bench-sandbox-"))
        # Sessions of root are other users.
        Path(directory).chmod(0o711)
        self._settings = SandboxSettings(Path(directory))

    def measure(self) -> Figures:
        """Opens sessions, one after the other, and measures those that are open together."""
        return asyncio.run(self._measure())

    async def _measure(self) -> Figures:
        sandbox = await choose(self._settings)
        async with AsyncExitStack() as stack:
            sessions, starts, loads = [], [], []
            for number in range(self._sessions):
                begin = time.perf_counter()
                session = await _open(sandbox, f"thread{number}")
                stack.push_async_callback(session.close)
                await _seconds(session, "1")
                starts.append(time.perf_counter() - begin)
                loads.append(await _seconds(session, LOAD))
                sessions.append(session)
            times = [await _seconds(sessions[0], WORK) for _ in range(CALLS)]
            plain = await asyncio.to_thread(_plain)
            memory = sum(_memory(session.pid) for session in sessions)
        return {
            "first call": 1000 * statistics.median(starts),
            "over CPython": 1000 * (statistics.median(times) - plain),
            "import of pandas and matplotlib": 1000 * statistics.median(loads),
            "each of twelve": memory / len(sessions),
        }


async def _open(sandbox: Sandbox, thread: str) -> ChildSession:
    session = await sandbox.open(thread)
    assert isinstance(session, ChildSession)
    return session


async def _seconds(session: Session, code: str) -> float:
    begin = time.perf_counter()
    async with aclosing(session.run(code)) as events:
        async for event in events:
            if isinstance(event, End) and event.lost:
                raise RuntimeError(f"the session has ended: {event.lost}")
    return time.perf_counter() - begin


def _plain() -> float:
    """Returns the seconds that the same work takes in a plain interpreter."""
    argv = [str(environment.find().python), "-I", "-c", PLAIN]
    return float(subprocess.run(argv, capture_output=True, check=True).stdout)


def _memory(pid: int) -> int:
    """Returns the KiB that a session takes, its part of what it shares included."""
    total = 0
    for process in processes.tree(pid):
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        if found := re.search(r"^Pss: +(\d+) kB$", text, re.M):
            total += int(found[1])
    return total


CASES: Final[dict[str, Callable[[Bench], Case]]] = {"sandbox": SandboxCase}
