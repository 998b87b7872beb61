"""A command that starts the interpreter elsewhere: in a container, a virtual machine, a cluster.

The command encloses the code; this engine only talks to it, over its standard streams, and keeps
the files. What runs there is sent as text, so that the other side needs only Python and IPython.
"""

import asyncio
import inspect
import os
from typing import ClassVar

from service.sandbox.engines.exchange import FileExchange
from service.sandbox.engines.threads import KeepsFiles
from service.sandbox.inside import exchange, outpost, worker
from service.sandbox.port import Session, Unavailable
from service.sandbox.session import ChildSession, Launch
from service.sandbox.settings import SandboxSettings

PYTHON = "python3"

ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_", "TZ", "TMPDIR", "XDG_"),
    *("DOCKER_", "CONTAINER_", "KUBE"),
)
"""How the variables begin that the command gets: it may pass them on, and some are secrets."""


class CommandSandbox(KeepsFiles):
    """Starts sessions by a command."""

    name: ClassVar[str] = "command"

    def __init__(self, settings: SandboxSettings) -> None:
        """Creates the folder of all threads. Raises OSError, and Unavailable without a command."""
        if not settings.command:
            raise Unavailable("ASSISTANTS_SANDBOX_COMMAND: not set, and ASSISTANTS_SANDBOX=command")
        super().__init__(settings.directory, settings.limits)
        python = os.fspath(settings.python) if settings.python else PYTHON
        self._argv = [*settings.command, python, "-I", "-c", outpost.BOOT]

    async def open(self, thread: str) -> Session:
        """Starts a session. See Sandbox."""
        try:
            await asyncio.to_thread(self._threads.prepare, thread)
        except OSError as error:
            raise Unavailable(f"the session's folder: {error.strerror}") from error
        launch = Launch(
            argv=self._argv,
            env={name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)},
            first_line=_first_line({"text": self._limits.text, "frame": self._limits.frame}),
            exchange=FileExchange(self.folder(thread), self._limits),
        )
        return await ChildSession.start(launch, self._limits)


def _first_line(config: dict[str, object]) -> bytes:
    sources = {}
    for module in (outpost, worker, exchange):
        sources[module.__name__.rpartition(".")[2]] = inspect.getsource(module)
    return outpost.first_line(sources, config)
