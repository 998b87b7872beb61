"""The processes of a session, as /proc shows them: found, measured, stopped and killed."""

import asyncio
import os
import re
import signal
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

PAGE = os.sysconf("SC_PAGE_SIZE")

STOPPED = "TtZX"
"""States of processes that execute nothing: stopped, traced, dead."""

FREEZE_ROUNDS = 20

# Shared memory without a file is shown as `/dev/zero (deleted)`: it is counted as memory.
_MAPPED = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (?:\S+ ){4} */(?!dev/zero).* \(deleted\)$", re.M)


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    parent: int
    state: str
    threads: int
    started: int
    """Clock ticks since the system's start: with the pid, it names a process for good."""

    resident: int
    """Bytes of memory, those that it shares with others included."""


def tree(pid: int) -> list[Process]:
    """Returns a process and all its descendants; nothing when it is gone."""
    found: dict[int, Process] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (process := _read(int(name))):
            found[process.pid] = process
            children.setdefault(process.parent, []).append(process.pid)
    result, todo = [], [pid]
    while todo:
        each = todo.pop()
        if each in found:
            result.append(found[each])
        todo += children.get(each, ())
    return result


def find(pid: int) -> list[Process]:
    """Returns one process, without its descendants; nothing when it is gone."""
    process = _read(pid)
    return [process] if process else []


def memory(processes: list[Process], most: int) -> int:
    """Returns the bytes of memory that processes use together.

    Exact only where it is more than `most`: what several share is counted once then.
    """
    total = sum(process.resident for process in processes)
    if total <= most or len(processes) == 1:
        return total
    return sum(_share(process) for process in processes)


def _share(process: Process) -> int:
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            match = re.search(rb"^Pss: +(\d+) kB$", file.read(), re.M)
    except OSError:
        return process.resident
    return int(match[1]) * 1024 if match else process.resident


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command, in parentheses, may contain anything.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        state=fields[0].decode(),
        threads=int(fields[17]),
        started=int(fields[19]),
        resident=int(fields[21]) * PAGE,
    )


def unlinked(processes: list[Process]) -> int:
    """Returns the bytes of files without a name that processes hold open or mapped.

    They take disk, or memory, that no walk through the folder shows.
    """
    held: dict[tuple[int, int], int] = {}
    total = 0
    for process in processes:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{process.pid}/fd"):
                with suppress(OSError):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                        held[status.st_dev, status.st_ino] = status.st_blocks * 512
        with suppress(OSError), open(f"/proc/{process.pid}/maps", "rb") as file:
            for match in _MAPPED.finditer(file.read()):
                total += int(match[2], 16) - int(match[1], 16)
    return total + sum(held.values())


def send(processes: list[Process], number: signal.Signals) -> None:
    """Sends a signal to processes, and to none that has got the pid of one meanwhile."""
    for process in processes:
        with suppress(OSError):
            handle = os.pidfd_open(process.pid)
            try:
                now = _read(process.pid)
                if now is not None and now.started == process.started:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def freeze(pid: int) -> bool:
    """Stops a process and its descendants. Returns whether all of them stand still.

    May block for a moment: a process that waits for a disk stops after that.
    """
    for _ in range(FREEZE_ROUNDS):
        # One that is created while its parent is being stopped is found in the next round.
        moving = [process for process in tree(pid) if process.state not in STOPPED]
        if not moving:
            return True
        send(moving, signal.SIGSTOP)
        time.sleep(0.01)
    return False


def thaw(pid: int) -> None:
    """Lets a process and its descendants go on."""
    send([process for process in tree(pid) if process.state == "T"], signal.SIGCONT)


def kill(pid: int) -> None:
    """Kills a process and its descendants: a group is not enough, as they may have left it."""
    send(tree(pid), signal.SIGKILL)


async def ended(pid: int) -> None:
    """Waits until a child of the server is dead, without reaping it."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    handle = os.pidfd_open(pid)
    try:
        loop.add_reader(handle, event.set)
        await event.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
