"""Starts and ends a peer."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.stack import CallError
from tests.support.postgres import Postgres
from tests.support.stack import free_address

HERE: Final = Path(__file__).parent
GRAPH: Final = ("agent.py", "langgraph.json")
START_SECONDS: Final = 120
REDIS: Final = "redis-server"
QUIET: Final = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run a peer."""

    name: str
    program: str
    """In the environments that `setup` makes."""
    arguments: tuple[str, ...]
    ready: str
    """A path that answers once it serves."""
    settings: Mapping[str, str]
    with_postgres: bool = False
    with_redis: bool = False

    @property
    def installed(self) -> bool:
        """Whether all that it needs is there."""
        return self._path.exists() and (not self.with_redis or shutil.which(REDIS) is not None)

    @property
    def _path(self) -> Path:
        return HERE / "venvs" / self.program

    @contextmanager
    def serving(
        self, env: Mapping[str, str], postgres: Callable[[], Postgres]
    ) -> Iterator[tuple[str, int]]:
        """Gives its URL and its process. Raises CallError where it does not start."""
        address, redis = free_address(), free_address()
        host, port = address.split(":")
        env = {**os.environ, **QUIET, **self.settings, **env}
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peer-")))
            for file in GRAPH:
                shutil.copy(HERE / file, directory)
            if self.with_postgres:
                server = postgres()
                env["DATABASE_URL"] = server.url(server.create_database("template0"))
            if self.with_redis:
                env["REDIS_URL"] = f"redis://{redis}/0"
                stack.enter_context(_running(_redis(redis), env, directory))
            command = [str(self._path), *self.arguments, "--host", host, "--port", port]
            process = stack.enter_context(_running(command, env, directory))
            _wait(process, f"http://{address}{self.ready}", directory)
            yield f"http://{address}", process.pid


def _redis(address: str) -> list[str]:
    host, port = address.split(":")
    return [REDIS, "--bind", host, "--port", port, "--save", "", "--appendonly", "no"]


@contextmanager
def _running(
    command: list[str], env: Mapping[str, str], directory: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # With all that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise CallError(f"{url} does not answer\n{(directory / 'output').read_text()[-4000:]}")


_AEGRA: Final = ("aegra_api.main:app", "--log-level", "warning")
_AEGRA_SETTINGS: Final = {"AEGRA_CONFIG": "langgraph.json", "LOG_LEVEL": "WARNING"}
PEERS: Final = (
    Peer("aegra", "aegra/bin/uvicorn", _AEGRA, "/health", _AEGRA_SETTINGS, with_postgres=True),
    Peer(
        "aegra-redis",
        "aegra/bin/uvicorn",
        _AEGRA,
        "/health",
        _AEGRA_SETTINGS | {"REDIS_BROKER_ENABLED": "true"},
        with_postgres=True,
        with_redis=True,
    ),
    Peer(
        "langgraph",
        "langgraph/bin/langgraph",
        ("dev", "--no-browser", "--no-reload", "--n-jobs-per-worker", "16"),
        "/ok",
        {},
    ),
)
