"""Where threads have their files on the server, for all engines."""

import asyncio
import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from service.sandbox import trees
from service.sandbox.folder import Folder
from service.sandbox.limits import Limits

PLAIN = re.compile(r"[A-Za-z0-9_-]{1,100}")


class ThreadFolders:
    """One folder per thread: `data` in it is what the code sees in /mnt/data."""

    def __init__(self, root: Path, limits: Limits) -> None:
        """Creates the folder of all threads. Raises OSError."""
        self.root = root.absolute()
        self._limits = limits
        self.root.mkdir(parents=True, exist_ok=True)
        # Sessions that run as other users pass through it, and see no names in it.
        os.chmod(self.root, 0o711)

    def path(self, thread: str) -> Path:
        """Returns the folder of a thread, which may not exist."""
        if PLAIN.fullmatch(thread):
            return self.root / thread
        return self.root / ("." + hashlib.sha256(thread.encode(errors="replace")).hexdigest())

    def files(self, thread: str) -> Folder:
        """Returns the files of a thread; makes its folder."""
        limits = self._limits
        path = self.path(thread)
        path.mkdir(mode=0o711, exist_ok=True)
        data = path / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        return Folder(data, most_bytes=limits.disk, most_files=limits.files)

    def prepare(self, thread: str) -> Path:
        """Returns the folder of a thread that is within its limits, for a session. Blocks.

        What exceeds them is removed, the last changed first: what the session before this one was
        ended for. Raises OSError.
        """
        data = self.files(thread).path
        os.chmod(data, 0o700, follow_symlinks=False)
        usage = trees.measure(os.fspath(data), self._limits.files)
        if usage is None or usage.bytes > self._limits.disk:
            trees.trim(os.fspath(data), self._limits.disk, self._limits.files)
        return data.parent

    async def forget(self, thread: str) -> None:
        """Removes a thread's files."""

        def work() -> None:
            root = os.open(self.root, trees.DIRECTORY)
            try:
                trees.remove(root, self.path(thread).name)
            finally:
                os.close(root)

        await asyncio.to_thread(work)

    def unused(self, before: float) -> list[str]:
        """Returns the threads in whose folders nothing was begun since a unix time. Blocks."""
        found = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                if PLAIN.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_mtime < before:
                            found.append(entry.name)
        return found


class KeepsFiles:
    """What every engine does for the files of threads. See Sandbox."""

    def __init__(self, root: Path, limits: Limits) -> None:
        """Creates the folder of all threads. Raises OSError."""
        self._threads = ThreadFolders(root, limits)
        self._limits = limits

    def folder(self, thread: str) -> Folder:
        """Returns the thread's files. See Sandbox."""
        return self._threads.files(thread)

    async def forget(self, thread: str) -> None:
        """Removes the thread's files. See Sandbox."""
        await self._threads.forget(thread)

    async def unused(self, before: float) -> list[str]:
        """Returns threads that have files. See Sandbox."""
        return await asyncio.to_thread(self._threads.unused, before)
