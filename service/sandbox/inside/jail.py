"""The first thing in the child: it gives up what it does not need, then becomes the worker.

Started as `python -I -B -c START <folder of this package> <configuration as JSON>`.
"""

import ctypes
import json
import os
import platform
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from . import landlock, seccomp

START = """
import sys
sys.path.insert(0, sys.argv[1])
from inside.jail import main
del sys.path[0]
main(sys.argv[2])
"""

ADDRESS_SPACE = 2 * 1024**3
"""Bytes of addresses beyond the memory's limit: libraries reserve more than they use."""

OPEN_FILES = 256

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
PR_CAP_AMBIENT, CLEAR_ALL = 47, 4
CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def main(text: str) -> None:
    """Encloses the process as configured, and runs the worker in it."""
    config: dict[str, Any] = json.loads(text)
    # Later it may be out of reach.
    path = Path(__file__).with_name("worker.py")
    worker = compile(path.read_bytes(), "worker.py", "exec")
    _limit(config)
    _become(config["uid"])
    os.umask(0o077)
    if config["alone"]:
        _enclose_alone(config)
    elif version := landlock.version():
        landlock.restrict(config["readable"], config["writable"], version)
    os.chdir(config["data"])
    module = ModuleType("worker")
    # Nothing here is of use to the code, and a module's name may be that of a package.
    for name in [name for name in sys.modules if name.partition(".")[0] == "inside"]:
        del sys.modules[name]
    sys.argv = [""]
    exec(worker, vars(module))
    module.main(config["worker"])


def _enclose_alone(config: dict[str, Any]) -> None:
    """Without namespaces: Landlock, and a filter that leaves one process which sees itself only."""
    # A change of user has just cleared it, if it was set before.
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != config["parent"]:
        _refuse("the server is gone")
    version = landlock.version()
    if config["pretend"] is not None:  # The tests' way to an older kernel.
        version = min(version, config["pretend"])
    if not version:
        _refuse("the kernel has no Landlock, or it is forbidden here")
    if seccomp.COLUMN < 0:
        _refuse(f"there is no filter of system calls for {platform.machine()}")
    landlock.restrict(config["readable"], config["writable"], version)
    alone = seccomp.Alone(pid=os.getpid(), truncate=version >= 3)
    code = seccomp.build(alone)
    os.chdir(config["data"])
    seccomp.load(code)


def _limit(config: dict[str, Any]) -> None:
    limits = {
        # With 0, programs that take dumps would still get one.
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_FSIZE: config["disk"],
        resource.RLIMIT_DATA: config["memory"],
        resource.RLIMIT_AS: config["memory"] + ADDRESS_SPACE,
    }
    if config["count_processes"]:
        limits[resource.RLIMIT_NPROC] = config["processes"]
    for number, most in limits.items():
        _, hard = resource.getrlimit(number)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(number, (most, most))
    # When memory runs out, the kernel ends this process before the server.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _become(uid: int | None) -> None:
    """Changes to a user, if one is given; keeps no capabilities and gets none back."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # The server counts the files that it has open, and may be a root that sees them only so.
        _checked(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _libc.prctl(PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0)
    if number := CAPSET.get(platform.machine()):
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        _checked(_libc.syscall(number, header, (ctypes.c_uint32 * 6)()))


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _refuse(reason: str) -> NoReturn:
    sys.exit(reason)
