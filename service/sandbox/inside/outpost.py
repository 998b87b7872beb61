"""Starts the worker on another machine, or in a container, where nothing of the server is.

This file, the worker and the exchange are sent there as text, in one line. The process that reads
it stays, as the worker's parent: it passes on what the server sends, and when the server is gone it
kills whatever the code has started. As process 1 of a container it cannot be killed by it.
"""

import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn

BOOT = """
import json, sys
start = json.loads(sys.stdin.buffer.readline())
space = {"__name__": "outpost"}
exec(compile(start["outpost"], "outpost.py", "exec"), space)
space["main"](start)
"""

FOLDER = "ASSISTANTS_SANDBOX_DATA"
"""The environment variable that names another folder than /mnt/data for the files."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(start: dict[str, Any]) -> None:
    """Becomes the parent of a worker, and in the child the worker."""
    config: dict[str, Any] = start["config"]
    _supervise()
    data = os.environ.pop(FOLDER, "/mnt/data")
    try:
        os.makedirs(data, exist_ok=True)
    except OSError as error:
        sys.exit(f"{data}: {error.strerror}")
    if os.path.realpath(data) != "/mnt/data":
        config["alias"] = os.path.realpath(data)
    os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.mkdtemp()
    os.chdir(data)
    worker, exchange = ModuleType("worker"), ModuleType("exchange")
    exec(compile(start["worker"], "worker.py", "exec"), vars(worker))
    exec(compile(start["exchange"], "exchange.py", "exec"), vars(exchange))
    this = worker.Worker(config, os.fdopen(os.dup(0), "rb"))
    this.services.update(exchange.services(data))
    sys.argv = [""]
    this.serve()


def _supervise() -> None:
    """Returns in the child; the parent stays here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(reader, 0)
        os.close(reader)
        os.close(writer)
        return
    os.close(reader)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Where this is a child of the server, it sees the server's end, and cleans up.
    libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    threading.Thread(target=_pass_on, args=(writer,), daemon=True).start()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            _end(os.waitstatus_to_exitcode(status))


def _pass_on(writer: int) -> None:
    """Passes on what comes from the server, until it is gone."""
    with suppress(OSError):
        while data := os.read(0, 1 << 16):
            view = memoryview(data)
            while view:
                view = view[os.write(writer, view) :]
        _end(0)


def _end(code: int) -> NoReturn:
    """Ends all that is below this process, then the process."""
    while children := _children():
        for pid in children:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
    os._exit(code if code >= 0 else 128 - code)


def _children() -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if int(fields[1]) == os.getpid() and fields[0] not in (b"Z", b"X"):
                    found.append(int(name))
    return found


def first_line(sources: dict[str, str], config: dict[str, Any]) -> bytes:
    """Returns what BOOT reads."""
    return json.dumps({**sources, "config": config}).encode()
