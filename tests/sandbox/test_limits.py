"""Attacks that want all of the machine: time, memory, processes, disk, output.

They would do harm without a boundary, so they run within one only, and with small limits.
"""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.sandbox import processes, trees
from service.sandbox.limits import MIB, Limits
from service.sandbox.port import Session
from service.sandbox.session import ChildSession
from tests.support.sandbox.calls import Outcome, call, commands_with
from tests.support.sandbox.places import ENGINES, Open
from tests.support.waiting import until

ENCLOSING = [engine for engine in ENGINES if engine != "command"]

MEMORY = 256
"""MiB of memory that these sessions may use."""

SLACK = 2048
"""MiB that a session may get hold of between two looks at it, where memory is fast: in children or
by several mappings. Without a limit, it would be all that the machine has.
"""

DISK = 8
"""MiB of files."""

SMALL = {"memory": MEMORY * MIB, "disk": DISK * MIB, "seconds": 20.0, "grace": 0.5}


@pytest.fixture(params=ENCLOSING)
def engine(request: pytest.FixtureRequest) -> str:
    """The engines that enclose by themselves."""
    return str(request.param)


class Peak:
    """The most that a session has used."""

    def __init__(self) -> None:
        self.memory = self.threads = 0


@contextmanager
def sampled(session: Session) -> Iterator[Peak]:
    """Looks at a session all the time."""
    assert isinstance(session, ChildSession)
    peak, done = Peak(), threading.Event()
    pid = session.pid

    def look() -> None:
        while not done.wait(0.05):
            found = processes.tree(pid)
            peak.memory = max(peak.memory, processes.memory(found, 0) // MIB)
            peak.threads = max(peak.threads, sum(process.threads for process in found))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def stopped(outcome: Outcome) -> bool:
    """Whether the code was stopped by an exception, or with its session."""
    return bool(outcome.errors) or outcome.end.lost is not None


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n  for i in range(1000): pass\n"
        "while True:\n try:\n  while True: f(); f()\n except BaseException: pass",
        "sum(range(10**13))",
        "import re\nre.match(r'(a*)*b', 'a' * 40)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["interrupts swallowed", "in C", "a regular expression", "stopped"],
)
async def test_time(opened: Open, code: str) -> None:
    session = await opened(seconds=0.5, grace=0.5)
    outcome = await call(session, code)
    assert outcome.end.interrupted
    assert stopped(outcome)


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(10 << 30)",
        "import os\nkept = []\nwhile True: kept.append(os.urandom(1 << 20) * 8)",
        """
import os, time
for i in range(16):
    if os.fork() == 0:
        x = bytearray(b"x") * (100 << 20)
        time.sleep(20)
        os._exit(0)
time.sleep(20)
""",
        """
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 32 << 20))
    kept[-1].write(b"x" * (32 << 20))
""",
        "import numpy\nkept = []\nwhile True: kept.append(numpy.ones(1 << 20))",
    ],
    ids=["at once", "bit by bit", "in children", "shared", "in numpy"],
)
async def test_memory(opened: Open, code: str) -> None:
    session = await opened(**SMALL)
    with sampled(session) as peak:
        outcome = await call(session, code)
    assert stopped(outcome)
    assert peak.memory < MEMORY + SLACK


async def test_memory_without_a_process(opened: Open) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
total = 0
for folder in ("/dev/shm", "/tmp", "/dev", "/run", "/var/tmp"):
    try:
        for i in range(8):
            with open(f"{folder}/f{i}", "wb") as file:
                for j in range(64):
                    file.write(b"x" * (1 << 20))
                    file.flush()
                    total += 1
    except OSError as error: print(folder, error.strerror)
for i in range(8):
    segment = libc.shmget(0, 64 << 20, 0o600)
    descriptor = libc.memfd_create(b"m", 0)
    total += 64 * (segment >= 0) + 64 * (descriptor >= 0)
print("TOTAL", total)
"""
    outcome = await call(await opened(**SMALL), code)
    assert int(outcome.text.split("TOTAL")[1]) <= 128


async def test_threads(opened: Open) -> None:
    code = """
import threading, time
threading.stack_size(32768)
number = 0
try:
    while number < 20000:
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        number += 1
except RuntimeError as error: print(error)
print("THREADS", number)
"""
    session = await opened(**SMALL)
    with sampled(session) as peak:
        outcome = await call(session, code)
    assert outcome.end.lost or int(outcome.text.split("THREADS")[1]) <= Limits().processes
    # How many come between two looks is the machine's.
    assert peak.threads < 10_000


async def test_processes(opened: Open) -> None:
    code = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
    session = await opened(**{**SMALL, "seconds": 1.0})
    with sampled(session) as peak:
        outcome = await call(session, code)
    assert stopped(outcome)
    assert peak.threads <= Limits().processes + 16


async def test_processes_that_leave(opened: Open) -> None:
    mark = f"{os.getpid()}98765"
    code = f"""
import os
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: os.execv("/usr/bin/sleep", ["sleep", "{mark}"])
        os._exit(0)
    os.wait()
except OSError as error: print(error)
"""
    session = await opened(**SMALL)
    await call(session, code)
    await session.close()
    await until(lambda: commands_with(mark) == [])


@pytest.mark.parametrize(
    "code",
    [
        "f = open('big', 'wb')\nfor i in range(4096): f.write(b'x' * (1 << 20))",
        """
for i in range(1 << 20):
    with open(f"f{i}", "wb") as file: file.write(b"x" * (1 << 20))
""",
        "f = open('s', 'wb')\nf.truncate(1 << 40)",
        "for i in range(1 << 20): open(f'e{i}', 'w').close()",
        "import os\nfor i in range(5000):\n os.mkdir('d')\n os.chdir('d')\nwhile True: pass",
        "import os\nfor i in range(40):\n os.mkdir('d' * 250)\n os.chdir('d' * 250)\n"
        "open('f', 'wb').write(b'x' * (1 << 20))\nwhile True: pass",
        """
import os
kept = []
while True:
    try:
        kept.append(open("gone", "wb"))
        os.unlink("gone")
        kept[-1].write(b"x" * (1 << 20))
        kept[-1].flush()
    except OSError: pass
""",
        """
import mmap, os
kept = []
while True:
    try:
        with open("gone", "w+b") as file:
            file.write(b"x" * (1 << 20))
            file.flush()
            kept.append(mmap.mmap(file.fileno(), 1 << 20))
        os.unlink("gone")
    except OSError: pass
""",
        """
import os
home = os.environ["HOME"]
for i in range(1 << 20):
    with open(f"{home}/f{i}", "wb") as file: file.write(b"x" * (1 << 20))
""",
    ],
    ids=[
        *("one file", "many files", "sparse", "empty files", "deep", "long names", "unlinked"),
        *("mapped and unlinked", "home"),
    ],
)
async def test_disk(opened: Open, root: Path, code: str) -> None:
    session = await opened(**SMALL, files=500)
    outcome = await call(session, code)
    assert outcome.end.lost or "KeyboardInterrupt" not in outcome.text
    assert stopped(outcome)
    usage = trees.measure(str(root), 1_000_000)
    assert usage is None or usage.bytes < 1000 * MIB
    await session.close()
    again = await opened()
    assert (await call(again, "'fine'")).text == "'fine'\n"


async def test_folders_that_are_closed_to_the_server(opened: Open) -> None:
    code = """
import os
os.mkdir("closed")
open("closed/f", "w").close()
os.chmod("closed", 0)
os.chmod(".", 0)
"""
    session = await opened()
    await call(session, code)
    await session.close()
    again = await opened()
    assert (await call(again, "'fine'")).text == "'fine'\n"


async def test_output(opened: Open) -> None:
    session = await opened(**SMALL, output=4 * MIB)
    outcome = await call(session, "for i in range(256): print('x' * (1 << 20))")
    assert outcome.end.lost is None
    assert len(outcome.text) < 2 * MIB
    code = "import subprocess\nsubprocess.run('head -c 268435456 /dev/zero', shell=True)"
    assert len((await call(session, code)).text) < 2 * MIB


async def test_images_beyond_the_output(opened: Open) -> None:
    session = await opened(**SMALL, output=MIB)
    code = """
import os
from PIL import Image
for i in range(20): display(Image.frombytes("L", (400, 400), os.urandom(160000)))
"""
    outcome = await call(session, code)
    assert outcome.end.lost == "it put out more than 1 MiB"


async def test_idle_sessions_stand_still(opened: Open) -> None:
    session = await opened(**SMALL)
    assert isinstance(session, ChildSession)
    code = """
import threading
def spin():
    global count
    while True: count += 1
count = 0
threading.Thread(target=spin, daemon=True).start()
"""
    await call(session, code)
    pid = session.pid
    await until(lambda: all(each.state in processes.STOPPED for each in processes.tree(pid)))
    await asyncio.sleep(0.5)
    assert all(each.state in processes.STOPPED for each in processes.tree(pid))
    assert (await call(session, "count > 0")).text == "True\n"
