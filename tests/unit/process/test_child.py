"""Child processes: started, watched, restarted, stopped, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog
import uvloop
from structlog.testing import LogCapture

from service.process import child
from service.process.child import Child, ChildError
from tests.support.waiting import until

WRITE_PID = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); "
SLEEP = WRITE_PID + "time.sleep(1000)"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the children."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    capture = LogCapture()
    logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])
    monkeypatch.setattr(child, "log", logger)
    return capture


Spawn = Callable[..., Child]


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Makes children that run Python code; they are ready when they have written their pid."""
    children = []

    def make(code: str, *, ready: Callable[[], Awaitable[bool]] = has_pid) -> Child:
        children.append(Child("tester", [sys.executable, "-u", "-c", code], ready=ready))
        return children[-1]

    yield make
    for each in children:
        await each.stop()


PID_FILE = Path("pid")


def written_pid() -> int | None:
    """The pid that the child has written, once it has."""
    try:
        return int(PID_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return None


async def has_pid() -> bool:
    return written_pid() is not None


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody reaps does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pid_of(process: Child) -> int:
    assert process.pid is not None
    return process.pid


async def test_the_pid_is_the_programs(spawn: Spawn) -> None:
    process = spawn(SLEEP)
    await process.start()
    assert written_pid() == process.pid
    assert os.getsid(pid_of(process)) == process.pid


async def test_stop_leaves_nothing(spawn: Spawn) -> None:
    process = spawn(SLEEP)
    await process.start()
    pid = pid_of(process)
    await process.stop()
    assert not alive(pid)
    assert process.pid is None
    await process.stop()


async def test_stop_leaves_no_grandchild(spawn: Spawn) -> None:
    process = spawn(
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "pathlib.Path('part').write_text(str(p.pid))\n"
        "pathlib.Path('part').rename('pid')\n"
        "time.sleep(1000)"
    )
    await process.start()
    grandchild = written_pid()
    assert grandchild
    assert alive(grandchild)
    await process.stop()
    await until(lambda: not alive(grandchild))


async def test_a_child_that_ignores_sigterm_is_killed(spawn: Spawn) -> None:
    process = spawn(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}")
    await process.start()
    pid = pid_of(process)
    await process.stop(timeout=0.1)
    assert not alive(pid)


async def test_restart(spawn: Spawn, logged: LogCapture) -> None:
    process = spawn(SLEEP)
    await process.start()
    for _ in range(2):
        killed = pid_of(process)
        os.kill(killed, signal.SIGKILL)
        await until(lambda killed=killed: process.pid not in (None, killed))  # type: ignore[misc]
        await until(lambda: written_pid() == process.pid)
    deaths = [entry for entry in logged.entries if entry["event"] == "child died"]
    assert [(d["status"], d["restart_in"]) for d in deaths] == [("SIGKILL", 0.1), ("SIGKILL", 0.2)]
    assert len([e for e in logged.entries if e["event"] == "child restarted"]) == 2


def test_on_uvloop() -> None:
    async def life() -> None:
        process = Child("tester", [sys.executable, "-c", SLEEP], ready=has_pid)
        await process.start()
        killed = pid_of(process)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: process.pid not in (None, killed))
        await until(lambda: written_pid() == process.pid)
        pid = pid_of(process)
        await process.stop()
        assert not alive(pid)

    uvloop.run(life())


async def test_stop_while_a_restart_is_due(
    spawn: Spawn, logged: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "FIRST_DELAY", 1000)
    process = spawn(SLEEP)
    await process.start()
    os.kill(pid_of(process), signal.SIGKILL)
    await until(lambda: any(entry["event"] == "child died" for entry in logged.entries))
    await process.stop()
    assert process.pid is None


async def test_output_is_logged(spawn: Spawn, logged: LogCapture) -> None:
    long = child.MAX_LINE * 50
    process = spawn(
        "import sys; print('one'); print('two', file=sys.stderr); "
        f"print('x' * {long}); print('three'); {SLEEP}"
    )
    await process.start()
    await until(lambda: any(entry.get("line") == "three" for entry in logged.entries))
    lines = [entry["line"] for entry in logged.entries if entry["event"] == "output"]
    assert lines == ["one", "two", "x" * child.MAX_LINE, "three"]
    assert {e["child"] for e in logged.entries} == {"tester"}


async def test_a_missing_program() -> None:
    process = Child("envoy", ["no-such-program"], ready=has_pid)
    with pytest.raises(ChildError) as caught:
        await process.start()
    assert str(caught.value) == (
        "envoy ended before it was ready (exit code 1): "
        "cannot run no-such-program: No such file or directory"
    )
    assert process.pid is None


async def test_an_early_end(spawn: Spawn) -> None:
    process = spawn("print('Loading.'); raise SystemExit('No such port.')")
    with pytest.raises(ChildError) as caught:
        await process.start()
    expected = "tester ended before it was ready (exit code 1): No such port."
    assert str(caught.value) == expected


async def test_never_ready(spawn: Spawn) -> None:
    async def never() -> bool:
        raise ConnectionRefusedError

    process = spawn(f"print('Loading.'); {SLEEP}", ready=never)
    with pytest.raises(ChildError) as caught:
        await process.start(timeout=1)
    assert str(caught.value) == "tester was not ready after 1 s: Loading."
    pid = written_pid()
    assert pid
    assert not alive(pid)


async def test_a_broken_look_leaves_nothing(spawn: Spawn) -> None:
    async def broken() -> bool:
        if written_pid():
            raise ValueError("broken")
        return False

    process = spawn(SLEEP, ready=broken)
    with pytest.raises(ValueError, match="broken"):
        await process.start()
    pid = written_pid()
    assert pid
    assert not alive(pid)


async def test_a_cancelled_start_leaves_nothing(spawn: Spawn) -> None:
    async def never() -> bool:
        return False

    starting = asyncio.create_task(spawn(SLEEP, ready=never).start())
    await until(written_pid)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    pid = written_pid()
    assert pid
    assert not alive(pid)


SERVER = """
import asyncio, pathlib, sys, uvloop
from service.process.child import Child

async def ready():
    return pathlib.Path("pid").exists()

async def main():
    child = Child("tester", [sys.executable, "-c", sys.argv[1]], ready=ready)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(1000)

uvloop.run(main())
"""


async def test_the_child_dies_with_a_killed_server(directory: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, SLEEP], stdout=subprocess.PIPE, cwd=directory
    )
    with server:
        assert server.stdout
        # The child's output is logged there as well.
        lines = iter(server.stdout.readline, b"")
        pid = next(int(line) for line in lines if line.strip().isdigit())
        assert alive(pid)
        server.kill()
    await until(lambda: not alive(pid))


@pytest.mark.parametrize(
    ("returncode", "text"),
    [(0, "exit code 0"), (1, "exit code 1"), (-9, "SIGKILL"), (-40, "signal 40")],
)
def test_how_a_process_ended(returncode: int, text: str) -> None:
    assert child.describe(returncode) == text
