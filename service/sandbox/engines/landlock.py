"""Landlock, seccomp and resource limits, without namespaces: works in unprivileged containers.

The session is one process. It has threads, but starts no others, so no `!command` works there. Its
files are not at /mnt/data: the worker replaces that path in code and output.
"""

import os
from pathlib import Path
from typing import ClassVar

from service.sandbox import environment, processes
from service.sandbox.engines.native import PACKAGE, NativeSandbox, Place
from service.sandbox.environment import Interpreter
from service.sandbox.limits import Limits
from service.sandbox.port import Unavailable
from service.sandbox.session import Launch
from service.sandbox.watch import Watch

DEVICES = ("/dev/urandom", "/dev/random", "/dev/zero")

PROC = ("/proc/meminfo", "/proc/cpuinfo", "/proc/stat")
"""What of /proc can be read: nothing about processes.

Not even /proc/self, where the sockets and mounts of the machine are, too. A rule for single files
of it lasts only as long as the kernel keeps their inodes.
"""


class LandlockSandbox(NativeSandbox):
    """Encloses sessions by Landlock and seccomp alone."""

    name: ClassVar[str] = "landlock"

    def __init__(
        self, root: Path, interpreter: Interpreter, limits: Limits, *, pretend: int | None = None
    ) -> None:
        """With `pretend`, uses no later version of Landlock than that one."""
        super().__init__(root, interpreter, limits)
        self._pretend = pretend

    def _launch(self, place: Place) -> Launch:
        if place.uid is not None:
            self._check_reach(place)
        data, scratch = os.fspath(place.data), os.fspath(place.scratch)
        config: dict[str, object] = {
            "alone": True,
            "alias": data,
            "count_processes": place.uid is not None,
            "data": data,
            "parent": os.getpid(),
            "pretend": self._pretend,
            "readable": [*self._readable(), *DEVICES, *PROC],
            "uid": place.uid,
            "writable": [data, scratch, "/dev/null"],
        }
        return Launch(
            argv=self._argv(os.fspath(PACKAGE.parent), config),
            env=self._environment(scratch),
            watch=Watch(processes.find, place.data, [place.scratch], place.uid, self._limits),
        )

    def _check_reach(self, place: Place) -> None:
        """A session of root is another user's: that one must get to the interpreter and the files.

        Raises Unavailable.
        """
        for folder in (self._interpreter.prefix, self._interpreter.base, *self._interpreter.links):
            if not environment.reachable(folder):
                raise Unavailable(
                    f"root's sessions are other users', and those cannot read {folder}"
                )
        if not environment.reachable(place.data.parent, environment.PASS):
            raise Unavailable(
                f"root's sessions are other users', and those cannot reach {place.data}"
            )
