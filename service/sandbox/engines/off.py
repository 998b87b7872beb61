"""No engine: threads keep their files, and nothing is run."""

from pathlib import Path

from service.sandbox.engines.threads import ThreadFolders
from service.sandbox.folder import Folder
from service.sandbox.limits import Limits
from service.sandbox.port import Session, Unavailable


class OffSandbox:
    """Opens no session, and says why."""

    name = "off"

    def __init__(self, root: Path, limits: Limits, reason: str) -> None:
        self.reason = reason
        self._threads = ThreadFolders(root, limits)

    def folder(self, thread: str) -> Folder:
        """Returns the thread's files. See Sandbox."""
        return self._threads.files(thread)

    async def forget(self, thread: str) -> None:
        """Removes the thread's files. See Sandbox."""
        await self._threads.forget(thread)

    async def open(self, thread: str) -> Session:
        """Raises Unavailable."""
        raise Unavailable(f"the code interpreter does not run here: {self.reason}")
