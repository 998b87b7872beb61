"""The system calls that a session may make: a seccomp filter, assembled here.

A filter is a program of 8-byte instructions that the kernel runs before every system call. This
one lists what is refused, by what it would give, and refuses whatever is newer than itself.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

X86, ARM = 0, 1
COLUMN = {"x86_64": X86, "aarch64": ARM}.get(platform.machine(), -1)
"""Which number of each pair below counts on this machine; -1 where none does."""

AUDIT_ARCH = (0xC000003E, 0xC00000B7)

NEWEST = 462
"""The last system call that this filter knows, mseal."""

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000

Pair = tuple[int, int]
"""A system call's number on x86_64 and aarch64; -1 where there is none."""

KERNEL: dict[str, Pair] = {
    # Namespaces and mounts.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "statmount": (457, 457),
    "listmount": (458, 458),
    # Code in the kernel, and large attack surface that data work does without.
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "vmsplice": (278, 75),
    "fanotify_init": (300, 262), "modify_ldt": (154, -1), "uselib": (134, -1),
    "nfsservctl": (180, 42), "lookup_dcookie": (212, 18), "personality": (135, 92),
    # The machine.
    "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "iopl": (172, -1),
    "ioperm": (173, -1), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "vhangup": (153, 58), "move_pages": (279, 239),
    "mbind": (237, 235), "migrate_pages": (256, 238),
    # Other processes.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    # Files by another way than their path, devices, attributes.
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "mknod": (133, -1),
    "mknodat": (259, 33), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    # Memory that no limit counts.
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
}  # fmt: skip
"""Refused in every session."""

NEIGHBOURS: dict[str, Pair] = {
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "inotify_init": (253, -1), "inotify_init1": (294, 26),
    "connect": (42, 203), "bind": (49, 200), "execve": (59, 221), "execveat": (322, 281),
}  # fmt: skip
"""Refused, too, where no namespace hides other processes and sockets, and exec runs set-id files.

Landlock knows neither sockets that have a path nor inotify.
"""

FAKED: dict[str, Pair] = {
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "lchown": (94, -1), "fchown": (93, 55), "fchownat": (260, 54),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
    "sync": (162, 81), "syncfs": (306, 267),
}  # fmt: skip
"""Succeed there without doing anything: Landlock lets them pass, and shutil wants to call them."""

OWN: dict[str, Pair] = {
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "setpgid": (109, 154),
}  # fmt: skip
"""Allowed there for the calling process only."""

CLONE: Pair = (56, 220)
CLONE3: Pair = (435, 435)
FORK: Pair = (57, -1)
VFORK: Pair = (58, -1)
SOCKET: Pair = (41, 198)
SOCKETPAIR: Pair = (53, 199)
IOCTL: Pair = (16, 29)
KILL_: Pair = (62, 129)
TGKILL: Pair = (234, 131)
PRCTL: Pair = (157, 167)
FCNTL: Pair = (72, 25)
TRUNCATE: Pair = (76, 45)

NAMESPACES = 0x7E020000
"""The CLONE_NEW* flags."""

CLONE_THREAD = 0x10000
AF_UNIX = SOCK_STREAM = 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
IOCTLS = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI and TIOCLINUX type into terminals; FIOSETOWN and SIOCSPGRP send signals."""

Instruction = tuple[int, int, int, int]

LOAD, AND, IF_EQUAL, IF_AT_LEAST, IF_SET, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
"""Where the system call's number, the architecture and the arguments' low halves are."""


@dataclass(frozen=True, slots=True)
class Alone:
    """The session has no namespaces: it is one process that sees the others."""

    pid: int
    truncate: bool
    """Whether Landlock watches truncate(2) here."""


def build(alone: Alone | None = None) -> bytes:
    """Returns the filter, as the kernel and bubblewrap take it. COLUMN must not be -1.

    With `alone`, for a process without namespaces: it can make threads but no processes, and reach
    only itself.
    """
    program = begin()
    # The numbers of x86_64's other interface, x32, are greater, too.
    program += [(IF_AT_LEAST, 0, 1, NEWEST + 1), refuse(errno.ENOSYS)]
    if alone:
        program += _alone(alone)
    for pair in KERNEL.values():
        program += rule(pair, refuse())
    # Its flags are behind a pointer, where no filter looks: the C library takes clone instead.
    program += rule(CLONE3, refuse(errno.ENOSYS))
    program += rule(SOCKET, *_sockets(unix=alone is None))
    # Streams only: a datagram socket of a pair can be pointed at any path.
    program += rule(
        SOCKETPAIR,
        (LOAD, 0, 0, FIRST), (IF_EQUAL, 0, 4, AF_UNIX),
        (LOAD, 0, 0, SECOND), (AND, 0, 0, 15), (IF_EQUAL, 0, 1, SOCK_STREAM),
        allow(), refuse(),
    )  # fmt: skip
    if alone:
        threads_only = [(IF_SET, 0, 1, CLONE_THREAD), allow(), refuse(errno.EAGAIN)]
    else:
        threads_only = [allow()]
    program += rule(CLONE, (LOAD, 0, 0, FIRST), (IF_SET, 0, 1, NAMESPACES), refuse(), *threads_only)
    program += rule(IOCTL, (LOAD, 0, 0, SECOND), *none_of(IOCTLS))
    return assemble(program)


def begin() -> list[Instruction]:
    """Returns how a filter begins: with the number of a call that is made as usual here."""
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, AUDIT_ARCH[COLUMN]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]


def assemble(program: list[Instruction]) -> bytes:
    """Returns a program as bytes; what it does not decide is allowed."""
    return b"".join(struct.pack("HBBI", *instruction) for instruction in [*program, allow()])


def _alone(alone: Alone) -> list[Instruction]:
    program: list[Instruction] = []
    for pair in FAKED.values():
        program += rule(pair, (RETURN, 0, 0, ERRNO))
    for pair in NEIGHBOURS.values():
        program += rule(pair, refuse())
    for pair in OWN.values():
        program += rule(
            pair,
            (LOAD, 0, 0, FIRST), (IF_EQUAL, 1, 0, 0), (IF_EQUAL, 0, 1, alone.pid),
            allow(), refuse(),
        )  # fmt: skip
    for pair in (KILL_, TGKILL):
        program += rule(pair, (LOAD, 0, 0, FIRST), (IF_EQUAL, 0, 1, alone.pid), allow(), refuse())
    for pair in (FORK, VFORK):
        program += rule(pair, refuse(errno.EAGAIN))
    # What ends the session with the server stays, and what lets the server see its files.
    program += rule(PRCTL, (LOAD, 0, 0, FIRST), *none_of((PR_SET_PDEATHSIG, PR_SET_DUMPABLE)))
    program += rule(FCNTL, (LOAD, 0, 0, SECOND), *none_of((F_SETOWN, F_SETSIG, F_SETOWN_EX)))
    if not alone.truncate:
        program += rule(TRUNCATE, refuse())
    return program


def _sockets(*, unix: bool) -> list[Instruction]:
    return [
        (LOAD, 0, 0, FIRST),
        (IF_EQUAL, 0, 1, AF_UNIX),
        allow() if unix else refuse(errno.EACCES),
        refuse(errno.ENETUNREACH),
    ]


def rule(pair: Pair, *body: Instruction) -> list[Instruction]:
    """Returns what is decided about one system call; nothing where the machine has none."""
    number = pair[COLUMN]
    return [(IF_EQUAL, 0, len(body), number), *body] if number >= 0 else []


def none_of(values: tuple[int, ...]) -> list[Instruction]:
    """Refuses a call whose loaded argument is one of these, and allows the others."""
    last = len(values) - 1
    return [
        *((IF_EQUAL, last - i, 1 if i == last else 0, value) for i, value in enumerate(values)),
        refuse(),
        allow(),
    ]


def allow() -> Instruction:
    """Lets the call pass."""
    return (RETURN, 0, 0, ALLOW)


def refuse(code: int = errno.EPERM) -> Instruction:
    """Lets the call fail with an error."""
    return (RETURN, 0, 0, ERRNO | code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load(code: bytes) -> None:
    """Puts the calling process under a filter, for good. Raises OSError."""
    pr_set_seccomp, mode_filter = 22, 2
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    if libc.prctl(pr_set_seccomp, mode_filter, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
