"""The clients' environments: built once below build/clients from the lock files in tests/clients.

Each holds one release of one client and what that needs, and nothing of ours. The newest Python
client is the one that the server itself uses: it is in the environment that runs the tests.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parents[2] / "clients"
BUILD: Final = HERE.parent.parent / "build" / "clients"
BIN: Final = Path(sys.executable).parent

Command = Sequence[str | Path]


class BuildFailed(Exception):
    """An environment could not be made; the message is what the installer printed."""


def python(name: str) -> Path:
    """Returns the interpreter of the environment made from NAME.lock; makes it when needed."""
    lock = HERE / f"{name}.lock"
    directory = BUILD / name
    with _to_build(directory, lock) as wanted:
        if wanted:
            venv.create(directory, with_pip=True, symlinks=True)
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            interpreter = directory / "bin" / "python"
            _run([interpreter, *install, "--no-deps", "--require-hashes", "-r", lock], directory)
    return directory / "bin" / "python"


def npm(name: str) -> Path:
    """Returns the directory with the packages of NAME/package-lock.json; makes it when needed.

    Its `drive` is a link to our driver, because scripts find the packages of where they are.
    """
    directory = BUILD / name
    lock = HERE / name / "package-lock.json"
    with _to_build(directory, lock) as wanted:
        if wanted:
            directory.mkdir()
            for file in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name / file, directory)
            (directory / "drive").symlink_to(os.path.relpath(HERE / "node", directory))
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"]
            _run([str(BIN / "npm"), "ci", *quiet], directory)
    return directory


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keeps out others who want the same: tests run in several processes."""
    with file.open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


@contextmanager
def _to_build(directory: Path, lock: Path) -> Iterator[bool]:
    """Yields whether the environment has to be made anew, while no one else may make it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    made_from = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    mark = BUILD / f"{directory.name}.made-from"
    with locked(BUILD / f"{directory.name}.lock"):
        if directory.exists() and mark.exists() and mark.read_text() == made_from:
            yield False
            return
        mark.unlink(missing_ok=True)
        if directory.exists():
            shutil.rmtree(directory)
        yield True
        mark.write_text(made_from)


def _run(command: Command, directory: Path) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildFailed(done.stdout)
