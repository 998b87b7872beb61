"""No engine: threads keep their files, and nothing is run."""

from pathlib import Path

from service.sandbox.engines.threads import KeepsFiles
from service.sandbox.limits import Limits
from service.sandbox.port import Session, Unavailable


class OffSandbox(KeepsFiles):
    """Opens no session, and says why."""

    name = "off"

    def __init__(self, root: Path, limits: Limits, reason: str) -> None:
        super().__init__(root, limits)
        self.reason = reason

    async def open(self, thread: str) -> Session:
        """Raises Unavailable."""
        raise Unavailable(f"the code interpreter does not run here: {self.reason}")
