"""bubblewrap: namespaces around the session, Landlock, seccomp and resource limits within.

Its files are at /mnt/data, it sees no other processes and has no network; /tmp and /dev/shm are in
memory.
"""

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import ClassVar

from service.sandbox import processes
from service.sandbox.engines.native import FILES, PACKAGE, SYSTEM, NativeSandbox, Place
from service.sandbox.environment import Interpreter
from service.sandbox.inside import seccomp
from service.sandbox.limits import MIB, Limits
from service.sandbox.port import Unavailable
from service.sandbox.session import Launch
from service.sandbox.watch import Watch

TEMPORARY = 64 * MIB
"""Bytes of memory that /tmp may take, and /dev/shm likewise."""

DATA = "/mnt/data"
INSIDE = "/opt/assistants"
"""Where the session finds the package that runs in it."""

UID = 1000
"""The user that a session believes to be, where it is the server's."""

OWN_COUNT = (5, 14)
"""The first Linux that counts the processes of a user in each namespace by itself."""


class BubblewrapSandbox(NativeSandbox):
    """Encloses sessions by bubblewrap."""

    name: ClassVar[str] = "bubblewrap"

    def __init__(
        self, root: Path, interpreter: Interpreter, limits: Limits, *, program: Path
    ) -> None:
        """`program` is the bwrap to use."""
        super().__init__(root, interpreter, limits)
        self._program = program

    def _launch(self, place: Place) -> Launch:
        if seccomp.COLUMN < 0:
            raise Unavailable(f"there is no filter of system calls for {platform.machine()}")
        config: dict[str, object] = {
            "alone": False,
            "count_processes": place.uid is not None or _kernel() >= OWN_COUNT,
            "data": DATA,
            "readable": [*self._readable(), INSIDE, "/proc", "/dev"],
            "uid": place.uid,
            "writable": [DATA, "/tmp", "/dev/shm", "/dev/null"],
        }
        rules = os.memfd_create("seccomp")
        os.write(rules, seccomp.build())
        os.lseek(rules, 0, os.SEEK_SET)
        argv = [
            os.fspath(self._program),
            *_namespaces(place.uid),
            *self._mounts(place.data),
            "--seccomp",
            str(rules),
            "--",
            *self._argv(INSIDE, config),
        ]
        return Launch(
            argv=argv,
            env=self._environment("/tmp"),
            pass_fds=[rules],
            watch=Watch(processes.tree, place.data, [], place.uid, self._limits),
        )

    def _mounts(self, data: Path) -> Iterator[str]:
        made: set[PurePath] = {PurePath("/"), PurePath("/tmp"), PurePath("/dev")}
        for path in SYSTEM:
            if os.path.islink(path):
                yield from ("--symlink", os.readlink(path), path)
            elif os.path.isdir(path):
                yield from ("--ro-bind", path, path)
        yield from ("--proc", "/proc", "--dev", "/dev")
        for path in ("/dev/shm", "/tmp"):
            yield from ("--perms", "1777", "--size", str(TEMPORARY), "--tmpfs", path)
        yield from ("--remount-ro", "/dev")
        for source, path in (
            *((file, file) for file in FILES if os.path.exists(file)),
            *((os.fspath(folder), os.fspath(folder)) for folder in self._interpreter.folders),
            (os.fspath(PACKAGE), f"{INSIDE}/{PACKAGE.name}"),
        ):
            yield from _bind("--ro-bind", source, path, made)
        yield from _bind("--bind", os.fspath(data), DATA, made)
        yield from ("--chdir", "/", "--remount-ro", "/")


def _namespaces(uid: int | None) -> Iterator[str]:
    yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--die-with-parent", "--new-session")
    yield from ("--hostname", "sandbox", "--cap-drop", "ALL")
    if uid is not None:
        # The mounts are root's, and what runs is not: root of a user namespace would still be the
        # owner of /proc/sys. Those two are for the change of user, and are gone with it.
        yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    else:
        yield from ("--unshare-user", "--uid", str(UID), "--gid", str(UID))


def _bind(how: str, source: str, path: str, made: set[PurePath]) -> Iterator[str]:
    """Binds a path, unless it is bound with what is above it. bwrap would make folders on the way
    that only root can pass."""
    pure = PurePath(path)
    if how == "--ro-bind" and any(pure.is_relative_to(each) for each in SYSTEM):
        return
    for parent in reversed(pure.parents):
        if parent not in made:
            made.add(parent)
            yield from ("--perms", "0755", "--dir", os.fspath(parent))
    made.add(pure)
    yield from (how, source, path)


def _kernel() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)
