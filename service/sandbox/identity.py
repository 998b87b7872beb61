"""The users that sessions run as, where the server may choose them: root in most containers."""

import ctypes
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

PREFERRED = range(210_000, 60_000_000)
"""Numbers of users that no system gives to anybody."""

SMALL = range(20_000, 65_000)
"""Those of a container whose users are mapped to a few thousand of the machine."""

CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SYS_PTRACE = 0, 6, 7, 19
PR_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None)


def users() -> range | None:
    """Returns the numbers that sessions' users may have; None where the server cannot change."""
    if os.geteuid() != 0 or not all(map(_has, (CAP_CHOWN, CAP_SETGID, CAP_SETUID))):
        return None
    mapped = [_mapped(name) for name in ("uid_map", "gid_map")]
    for wanted in (PREFERRED, SMALL):
        if all(any(_within(wanted, each) for each in ranges) for ranges in mapped):
            return wanted
    return None


def choose(among: range, present: int, taken: Collection[int]) -> int:
    """Returns the user of a new session: the owner of its files, unless another session has it.

    Otherwise one by chance, as there may be other servers on this machine.
    """
    uid = present
    while uid not in among or uid in taken:
        uid = among[secrets.randbelow(len(among))]
    return uid


@contextmanager
def seeing(uid: int | None) -> Iterator[None]:
    """Lets the calling thread see what processes of a user have open, as that user does.

    Root sees it anyway, but not in a container without CAP_SYS_PTRACE.
    """
    if uid is None or _has(CAP_SYS_PTRACE):
        yield
        return
    # Of the thread alone. The server's files would be closed to it meanwhile.
    _libc.setfsgid(uid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())
        # The change takes it away from the whole process.
        _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def _has(capability: int) -> bool:
    status = Path("/proc/thread-self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    return bool(match and int(match[1], 16) >> capability & 1)


def _mapped(name: str) -> list[range]:
    lines = Path(f"/proc/self/{name}").read_text().splitlines()
    numbers = [list(map(int, line.split())) for line in lines]
    return [range(first, first + count) for first, _, count in numbers]


def _within(inner: range, outer: range) -> bool:
    return outer.start <= inner.start and inner.stop <= outer.stop
