"""Engines and folders for tests, and one engine without any boundary."""

import json
import os
import shlex
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from service.sandbox import environment, processes, trees
from service.sandbox.engines.bubblewrap import BubblewrapSandbox
from service.sandbox.engines.command import CommandSandbox
from service.sandbox.engines.landlock import LandlockSandbox
from service.sandbox.engines.native import PACKAGE, NativeSandbox, Place
from service.sandbox.environment import Interpreter
from service.sandbox.limits import Limits
from service.sandbox.port import Sandbox, Session
from service.sandbox.session import Launch
from service.sandbox.settings import SandboxSettings
from service.sandbox.watch import Watch

PYTHON = os.environ.get("TEST_INTERPRETER")
"""The interpreter, where the tests do not run in the server's environment."""

ENGINES = tuple(os.environ.get("TEST_ENGINES", "bubblewrap landlock command").split())
"""The engines that work where the tests run."""

COMMAND = shlex.split(os.environ.get("TEST_COMMAND", ""))
"""A command that encloses what it starts; without one, the tests have a script that does not."""

Make = Callable[[Path, Limits], Sandbox]
"""Makes an engine on a folder."""

Open = Callable[..., Awaitable[Session]]
"""Opens a session of a thread, with limits."""

WRAPPER = """#!/bin/sh
ASSISTANTS_SANDBOX_DATA=$(mktemp -d {root}/far-XXXXXX)
export ASSISTANTS_SANDBOX_DATA
exec "$@"
"""
"""Starts the interpreter elsewhere: in a folder that the server does not look into."""


def interpreter() -> Interpreter:
    """Returns the interpreter that `make setup` has installed."""
    return environment.find(Path(PYTHON) if PYTHON else None)


@contextmanager
def temporary_root() -> Iterator[Path]:
    """A folder that other users can pass through, as sessions of root must: pytest's are closed."""
    root = Path(tempfile.mkdtemp(prefix="sandbox-")).resolve()
    root.chmod(0o711)
    try:
        yield root
    finally:
        handle = os.open(root.parent, trees.DIRECTORY)
        trees.remove(handle, root.name)
        os.close(handle)


def maker(engine: str) -> Make:
    """Returns what makes an engine of that name."""
    found = interpreter()
    match engine:
        case "bubblewrap":
            program = found.bubblewrap
            assert program is not None
            return lambda root, limits: BubblewrapSandbox(root, found, limits, program=program)
        case "landlock":
            return lambda root, limits: LandlockSandbox(root, found, limits)
        case "command":
            return lambda root, limits: command(root, found, limits)
        case "plain":
            return lambda root, limits: PlainSandbox(root, found, limits)
        case _:
            version = int(engine.removeprefix("landlock-"))
            return lambda root, limits: LandlockSandbox(root, found, limits, pretend=version)


def command(root: Path, found: Interpreter, limits: Limits) -> CommandSandbox:
    """Returns an engine whose command is TEST_COMMAND, else a plain wrapper script."""
    root.mkdir(exist_ok=True)
    settings = SandboxSettings(
        directory=root / "threads", engine="command", python=found.python, limits=limits
    )
    if COMMAND:
        return CommandSandbox(replace(settings, command=tuple(COMMAND)))
    script = root / "wrapper"
    script.write_text(WRAPPER.format(root=root))
    script.chmod(0o755)
    return CommandSandbox(replace(settings, command=(os.fspath(script),)))


class PlainSandbox(NativeSandbox):
    """Encloses nothing: what an attack does here shows that it would do it."""

    name: ClassVar[str] = "plain"

    def _launch(self, place: Place) -> Launch:
        start = (
            "import json, sys; sys.path.insert(0, sys.argv[1]); from inside.worker import main; "
            "import os; os.chdir(sys.argv[3]); main(json.loads(sys.argv[2]))"
        )
        data = os.fspath(place.data)
        config = {"text": self._limits.text, "frame": self._limits.frame, "alias": data}
        python = os.fspath(self._interpreter.python)
        return Launch(
            argv=[python, "-I", "-c", start, os.fspath(PACKAGE.parent), json.dumps(config), data],
            env={**os.environ, **self._environment(os.fspath(place.scratch))},
            watch=Watch(processes.tree, place.data, [], place.uid, self._limits),
        )

    def _choose_user(self, data: Path) -> int | None:
        return None
