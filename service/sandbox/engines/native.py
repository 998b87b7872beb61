"""What the engines share that start the interpreter on this machine."""

import asyncio
import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from service.sandbox import identity, trees
from service.sandbox.engines.threads import KeepsFiles
from service.sandbox.environment import Interpreter
from service.sandbox.inside import jail
from service.sandbox.limits import Limits
from service.sandbox.port import Session, Unavailable
from service.sandbox.session import ChildSession, Launch

PACKAGE = Path(jail.__file__).parent
"""What runs in the child."""

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
FILES = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
)
"""What of the machine every session can read, where it is."""

THREADS = "2"
"""Threads that numpy's libraries start; else one for each of the machine's cores."""


@dataclass(frozen=True, slots=True)
class Place:
    """What one session runs on."""

    data: Path
    scratch: Path
    """Where HOME and temporary files are, where the session has no /tmp of its own."""

    uid: int | None
    """The user that the session becomes; None where it stays the server's."""


class NativeSandbox(KeepsFiles, ABC):
    """Starts the interpreter in a child of this server."""

    name: ClassVar[str]

    def __init__(self, root: Path, interpreter: Interpreter, limits: Limits) -> None:
        """Creates the folder of all threads. Raises OSError."""
        super().__init__(root, limits)
        self._interpreter = interpreter
        self._users = identity.users()
        self._sessions: dict[int, ChildSession | None] = {}
        """By user: a session that runs, or None for one that starts."""

    async def open(self, thread: str) -> Session:
        """Starts a session. See Sandbox."""
        uid = self._choose_user(self.folder(thread).path)
        try:
            place = await asyncio.to_thread(self._prepare, thread, uid)
            session = await self._start(place)
        except OSError as error:
            raise Unavailable(f"the session's folder: {error.strerror}") from error
        finally:
            if uid is not None:
                del self._sessions[uid]
        if uid is not None:
            self._sessions[uid] = session
        return session

    async def _start(self, place: Place) -> ChildSession:
        launch = await asyncio.to_thread(self._launch, place)
        try:
            return await ChildSession.start(launch, self._limits)
        finally:
            for descriptor in launch.pass_fds:
                os.close(descriptor)

    @abstractmethod
    def _launch(self, place: Place) -> Launch:
        """Returns how the session's child is started. Its `pass_fds` are closed afterwards."""

    def _choose_user(self, data: Path) -> int | None:
        if self._users is None:
            return None
        for uid, session in list(self._sessions.items()):
            if session is not None and session.lost is not None:
                del self._sessions[uid]
        uid = identity.choose(self._users, data.lstat().st_uid, self._sessions.keys())
        self._sessions[uid] = None
        return uid

    def _prepare(self, thread: str, uid: int | None) -> Place:
        folder = self._threads.prepare(thread)
        data, scratch = folder / "data", folder / "scratch"
        handle = os.open(folder, trees.DIRECTORY)
        try:
            trees.remove(handle, "scratch")
        finally:
            os.close(handle)
        scratch.mkdir(mode=0o700)
        if uid is not None:
            os.chown(scratch, uid, uid)
            if data.lstat().st_uid != uid:
                trees.own(os.fspath(data), uid)
        return Place(data, scratch, uid)

    def _environment(self, home: str) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": THREADS,
            "OMP_NUM_THREADS": THREADS,
        }

    def _argv(self, package: str, config: dict[str, object]) -> list[str]:
        """Returns the command that encloses itself as configured and runs the worker."""
        fonts = self._interpreter.fonts
        limits = self._limits
        whole = {
            "memory": limits.memory,
            "disk": limits.disk,
            "processes": limits.processes,
            **config,
            "worker": {
                "text": limits.text,
                "frame": limits.frame,
                "fonts": fonts and os.fspath(fonts),
                "alias": config.get("alias"),
            },
        }
        python = os.fspath(self._interpreter.python)
        return [python, "-I", "-B", "-c", jail.START, package, json.dumps(whole)]

    def _readable(self) -> list[str]:
        """Returns what a session may read besides its files: libraries, the interpreter."""
        present = [path for path in (*SYSTEM, *FILES) if os.path.exists(path)]
        return [*present, *map(os.fspath, self._interpreter.folders)]
