"""What a server's two processes hold: memory and files."""

import os
from pathlib import Path

from tests.support.stack import Stack


def pids(server: Stack) -> tuple[int, int]:
    """Returns the process ids of the server and of its Envoy."""
    assert server.process is not None
    own = server.process.pid
    [envoy] = {
        int(child)
        for task in Path(f"/proc/{own}/task").iterdir()
        for child in (task / "children").read_text().split()
        if Path(f"/proc/{child}/comm").read_text().strip() == "envoy"
    }
    return own, envoy


def memory(server: Stack) -> list[int]:
    """Returns how much memory each of them has in use, in bytes."""
    return [resident(pid) for pid in pids(server)]


def files(server: Stack) -> list[int]:
    """Returns how many files and connections each of them has open."""
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids(server)]


def resident(pid: int) -> int:
    """Returns how much memory a process has in use, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
