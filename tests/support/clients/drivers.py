"""The clients, and how each drives a server: in a process of its own, in its own environment."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.clients import environments, scripts

ROOT: Final = Path(__file__).parents[3]
NODE: Final = Path(sys.executable).parent / "node"

Config = Mapping[str, object]
Process = subprocess.Popen[str]


@dataclass(frozen=True, eq=False)
class Client:
    """One release of a client."""

    name: str
    modes: tuple[str, ...]
    """The ways in which it does its checks."""
    checks: scripts.Checks
    start: Callable[[Config], Process]
    """Starts its driver; what the driver takes and prints is described there."""

    @property
    def names(self) -> list[str]:
        """All that it does: `MODE CHECK`."""
        return [f"{mode} {check}" for mode in self.modes for check in self.checks]


def _python(name: str, interpreter: Callable[[], Path]) -> Client:
    def start(config: Config) -> Process:
        return _start(ROOT, interpreter(), "-m", "tests.clients.python", json.dumps(config))

    return Client(name, ("sync", "async", "strict", "azure"), scripts.PYTHON, start)


def _node(name: str, directory: Callable[[], Path]) -> Client:
    def start(config: Config) -> Process:
        links = ["--preserve-symlinks", "--preserve-symlinks-main"]
        return _start(directory(), NODE, *links, "drive/main.mjs", json.dumps(config))

    return Client(name, ("async", "azure"), scripts.NODE, start)


def _start(directory: Path, *command: str | Path) -> Process:
    return subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


CLIENTS: Final = [
    _python("openai-1", lambda: environments.python("openai-1")),
    _python("openai-2", lambda: environments.python("openai-2")),
    _python("openai-current", lambda: Path(sys.executable)),
    _node("npm-4", lambda: environments.npm("npm-4")),
    _node("npm-current", lambda: environments.npm("npm-current")),
]
