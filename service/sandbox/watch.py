"""What no kernel limit counts: memory, threads and files of a session as a whole, looked at."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.sandbox import identity, processes, trees
from service.sandbox.limits import MIB, Limits
from service.sandbox.processes import Process

SPARE_THREADS = 8
"""Threads beyond the limit that are none of the code's: of bubblewrap and of the worker."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at one session's processes and folders."""

    find: Callable[[int], list[Process]]
    """Returns the session's processes, from that of the child."""

    data: Path
    """The thread's files."""

    others: Sequence[Path]
    """Further folders on the disk that the code can write."""

    uid: int | None
    """The session's user, if it is not the server's."""

    limits: Limits

    def exceeded(self, pid: int) -> str | None:
        """Returns which limit the session of this child exceeds, as a clause. Blocks."""
        limits, running = self.limits, self.find(pid)
        if processes.memory(running, limits.memory) > limits.memory:
            return f"it used more than {limits.memory // MIB} MiB of memory"
        if sum(process.threads for process in running) > limits.processes + SPARE_THREADS:
            return f"it started more than {limits.processes} processes and threads"
        with identity.seeing(self.uid):
            total = processes.unlinked(running)
        for folder in (self.data, *self.others):
            usage = trees.measure(os.fspath(folder), limits.files)
            if usage is None:
                return f"it made more than {limits.files} files and folders, or too deep ones"
            total += usage.bytes
        if total > limits.disk:
            return f"its files took more than {limits.disk // MIB} MiB"
        return None
