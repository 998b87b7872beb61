"""No process is left when the server is gone, however it went, and whatever the code has done."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.sandbox import processes
from tests.support.waiting import until

CLINGING = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1000)
        os._exit(0)
except OSError: pass
{more}
open("/mnt/data/running", "w").close()
while True: time.sleep(1)
"""

IDLE = "open('/mnt/data/running', 'w').close()"


@pytest.mark.parametrize(
    "code",
    [IDLE, CLINGING.format(more=""), CLINGING.format(more="os.closerange(3, 64)")],
    ids=["idle", "clinging", "without descriptors"],
)
async def test_the_server_is_killed(engine: str, root: Path, code: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.sandbox.serve", engine, root, code]
    )
    try:
        await until(lambda: server.poll() is not None or list(root.rglob("running")))
        assert server.poll() is None
        running = processes.tree(server.pid)
        assert len(running) > 1
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    await until(lambda: not [each for each in running if alive(each)])


def alive(process: processes.Process) -> bool:
    """Whether a process still runs."""
    now = processes.find(process.pid)
    return bool(now) and now[0].started == process.started and now[0].state not in "ZX"
