"""Files between the server and a worker that has a disk of its own. Sent there as text.

It runs as the same user as the code: it needs no care about what the code has left in the folder,
which is the server's to judge.
"""

import base64
import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

MOST = 100_000
DEPTH = 32


def services(top: str) -> dict[str, Callable[[dict[str, Any], Any], None]]:
    """Returns what answers requests about the files below a folder."""

    def put(request: dict[str, Any]) -> bool:
        path = os.path.join(top, request["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not request["offset"]:
            _drop(path)
        with open(path, "ab") as file:
            file.write(base64.b64decode(request["data"]))
        return True

    def get(request: dict[str, Any]) -> str:
        with open(os.path.join(top, request["path"]), "rb") as file:
            file.seek(request["offset"])
            return base64.b64encode(file.read(request["size"])).decode()

    def drop(request: dict[str, Any]) -> bool:
        _drop(os.path.join(top, request["path"]))
        return True

    def link(request: dict[str, Any]) -> bool:
        path = os.path.join(top, request["path"])
        _drop(path)
        os.symlink(request["target"], path)
        return True

    def found(request: dict[str, Any]) -> list[tuple[str, int, int]]:
        return _files(top, request["most"])

    def answering(
        work: Callable[[dict[str, Any]], object],
    ) -> Callable[[dict[str, Any], Any], None]:
        def answer(request: dict[str, Any], channel: Any) -> None:
            try:
                value = work(request)
            except (OSError, ValueError):
                value = None
            channel.send("answer", id=request["id"], value=value)

        return answer

    return {
        "put": answering(put),
        "get": answering(get),
        "drop": answering(drop),
        "link": answering(link),
        "list": answering(found),
    }


def _drop(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def _files(top: str, most: int) -> list[tuple[str, int, int]]:
    """Returns path, size and time of the plain files, at most one more than asked for."""
    found: list[tuple[str, int, int]] = []
    todo = [(top, 0)]
    while todo and len(found) <= min(most, MOST):
        folder, depth = todo.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and depth < DEPTH:
                    todo.append((entry.path, depth + 1))
                elif stat.S_ISREG(status.st_mode):
                    path = os.path.relpath(entry.path, top)
                    found.append((path, status.st_size, status.st_mtime_ns))
    return found
