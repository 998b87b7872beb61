"""Runs a command as another user, or as in one of Docker's containers, or both. Needs root.

restricted.py [--user UID] [--docker] [--show PATH]… -- COMMAND…
"""

import argparse
import ctypes
import errno
import os
from pathlib import Path

from service.sandbox.inside import seccomp
from service.sandbox.inside.seccomp import allow, refuse, rule

DOCKER_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""What root keeps in a container that Docker starts without options."""

DOCKER_REFUSES = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen"),
    *("fsconfig", "fsmount", "fspick", "mount_setattr", "kexec_load", "kexec_file_load"),
    *("init_module", "finit_module", "delete_module", "bpf", "perf_event_open", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key"),
    *("request_key", "fanotify_init", "uselib", "nfsservctl", "lookup_dcookie", "syslog", "acct"),
    *("quotactl", "swapon", "swapoff", "reboot", "iopl", "ioperm", "settimeofday"),
    *("clock_settime", "adjtimex", "sethostname", "setdomainname", "vhangup", "move_pages"),
    *("mbind", "migrate_pages", "open_by_handle_at", "name_to_handle_at", "kcmp"),
)
"""What its profile refuses without further capabilities."""

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_CAPBSET_READ = 24, 23

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Becomes the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", type=int)
    parser.add_argument("--docker", action="store_true")
    parser.add_argument("--show", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    show([path.resolve() for path in arguments.show])
    if arguments.docker:
        restrict()
    if arguments.user is not None:
        os.setgroups([])
        os.setresgid(arguments.user, arguments.user, arguments.user)
        os.setresuid(arguments.user, arguments.user, arguments.user)
        os.environ["HOME"] = "/tmp"
    os.execvp(arguments.command[0], arguments.command)


def show(paths: list[Path]) -> None:
    """Lets every user pass to these folders, in mounts of this process alone."""
    hidden = {
        parent for path in paths for parent in path.parents if not parent.stat().st_mode & 0o001
    }
    if not hidden:
        return
    checked(libc.unshare(CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    # They must be mounts of the new namespace, and be there before they are hidden.
    handles = {path: os.open(path, os.O_PATH) for path in paths}
    for folder in hidden:
        if not any(other in folder.parents for other in hidden):
            checked(libc.mount(b"none", bytes(folder), b"tmpfs", 0, b"mode=755"))
    for path, handle in handles.items():
        if any(folder in path.parents for folder in hidden):
            path.mkdir(parents=True, exist_ok=True)
            checked(libc.mount(b"/proc/self/fd/%d" % handle, bytes(path), None, MS_BIND, None))


def restrict() -> None:
    """Does what Docker does before it starts a container's program."""
    program = seccomp.begin()
    for name in DOCKER_REFUSES:
        program += rule(seccomp.KERNEL[name], refuse())
    program += rule(seccomp.CLONE3, refuse(errno.ENOSYS))
    program += rule(
        seccomp.CLONE,
        (seccomp.LOAD, 0, 0, seccomp.FIRST),
        (seccomp.IF_SET, 0, 1, seccomp.NAMESPACES),
        refuse(),
        allow(),
    )
    seccomp.load(seccomp.assemble(program))
    for number in range(64):
        if number not in DOCKER_CAPABILITIES and libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            checked(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
    # What exec gives to root is what the bounding set has left.


def checked(result: int) -> None:
    """Raises OSError for a result that means a failure."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
