"""What runs: processes are found by their environment, which children inherit."""

import os
import signal
from pathlib import Path

from tests.support.stack import Stack


def processes_of(stack: Stack) -> dict[int, str]:
    """Returns every live process of a stack, whoever its parent is, with its program's name."""
    return marked(f"ASSISTANTS_DATA_DIR={stack.env['ASSISTANTS_DATA_DIR']}")


def marked(mark: str) -> dict[int, str]:
    """Returns the live processes that have NAME=VALUE in their environment."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            name = (directory / "comm").read_text().strip()
            if mark.encode() in environment and _alive(directory):
                found[int(directory.name)] = name
        except OSError:
            continue  # It has ended, or is another user's.
    return found


def _alive(directory: Path) -> bool:
    return (directory / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def pid_of_envoy(stack: Stack) -> int | None:
    """Returns the process of the stack's Envoy, if there is one."""
    return next((pid for pid, name in processes_of(stack).items() if name == "envoy"), None)


def kill(pid: int | None, number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to one process."""
    assert pid is not None
    os.kill(pid, number)
