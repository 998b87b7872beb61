"""Landlock: the kernel lets the calling process reach the named paths and no others, for good."""

import ctypes
import os
import stat
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION = 1
PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: TRUNCATE, 5: IOCTL_DEV}
"""The rights to files that each version of the interface has added."""

NET, SCOPED = 3, 3
"""TCP's bind and connect (since 4); abstract Unix sockets and signals (since 6)."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Returns the version of the kernel's interface; 0 where it has none, or it is forbidden."""
    number: int = _libc.syscall(CREATE_RULESET, None, 0, VERSION)
    return max(0, number)


def restrict(readable: Iterable[str], writable: Iterable[str], abi: int) -> None:
    """Leaves the process what is below these paths, and nothing else. What is absent is left out.

    `abi` is the version to use, between 1 and the kernel's. Sets no_new_privs. Raises OSError.
    """
    files = sum(bits for since, bits in RIGHTS.items() if abi >= since)
    attributes = (ctypes.c_uint64 * 3)(files, NET * (abi >= 4), SCOPED * (abi >= 6))
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _checked(_libc.syscall(CREATE_RULESET, attributes, size, 0))
    try:
        for paths, access in ((readable, READ), (writable, files)):
            for path in paths:
                _allow(rules, path, access & files)
        _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc.syscall(RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            access &= OF_FILES
        # struct landlock_path_beneath_attr is packed: eight bytes, and four.
        rule = access.to_bytes(8, "little") + handle.to_bytes(4, "little")
        _checked(_libc.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0))
    finally:
        os.close(handle)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
