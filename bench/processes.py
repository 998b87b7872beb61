"""What a process takes, as the kernel counts it: CPU time and memory."""

import contextlib
import os
from pathlib import Path
from typing import Final

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has taken so far, of user and system, in seconds."""
    return sum(_ticks(pid)[:2]) * TICK


def cpu_seconds_of_family(pid: int) -> float:
    """Returns the same of a process and its children together, also of those that have ended."""
    family = sum(_ticks(pid))
    for child in _children(pid):
        try:
            family += sum(_ticks(child))
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has ended, and counts as its parent's next time.
    return family * TICK


def cpu_seconds_of_ended(pid: int) -> float:
    """Returns the same of the children of a process that have ended, and were waited for."""
    return sum(_ticks(pid)[2:]) * TICK


def resident_bytes(pid: int) -> int:
    """Returns how much of a process's memory is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def proportional_bytes_of_family(pid: int) -> int:
    """Returns how much RAM a process and its children have; what several share counts once."""
    family = 0
    for each in (pid, *_children(pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            family += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return family * 1024


def child_named(pid: int, name: str) -> int:
    """Returns the child of a process that runs the program `name`. LookupError if there is none."""
    for child in children_named(pid, name):
        return child
    raise LookupError(f"process {pid} has no child {name}")


def children_named(pid: int, name: str) -> list[int]:
    """Returns the children of a process that run the program `name`."""
    found = _children(pid)
    return [each for each in found if Path(f"/proc/{each}/comm").read_text().strip() == name]


def _ticks(pid: int) -> tuple[int, int, int, int]:
    # The name, in brackets, may hold spaces. Fields 14 to 17 of proc(5): user and system time of
    # the process, and of its children that were waited for.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = map(int, fields[11:15])
    return user, system, children_user, children_system


def _children(pid: int) -> list[int]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid:
            found.append(int(directory.name))
    return found
