"""The real stack in processes of its own: `assistants serve`, as an operator starts it."""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import secret
from tests.support.ports import free_port
from tests.support.secret import new_secret

COMMAND: Final = Path(sys.executable).parent / "assistants"
START_SECONDS: Final = 60
STOP_SECONDS: Final = 30


class StartFailed(Exception):
    """The server ended, or did not serve in time; the message holds what it printed."""


def free_address() -> str:
    """Returns a loopback HOST:PORT that nobody listens on."""
    return f"127.0.0.1:{free_port()}"


class Stack:
    """One server with a data directory of its own, which outlives restarts."""

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        command: Sequence[str | Path] = (COMMAND, "serve"),
    ) -> None:
        """Chooses addresses and a data directory; `env` adds settings or overrides them."""
        self._command = command
        # Short, as the path of a Unix socket in it must be.
        self.directory = Path(tempfile.mkdtemp(prefix="as-"))
        self.output = self.directory / "output"
        self.env = {
            "ASSISTANTS_HTTP_ADDRESS": free_address(),
            "ASSISTANTS_GRPC_ADDRESS": free_address(),
            "ASSISTANTS_DATA_DIR": str(self.directory / "data"),
            "ASSISTANTS_MODEL_API_KEY": new_secret(),
            # Else each start tries sandboxes, for which tests that need one ask.
            "ASSISTANTS_SANDBOX": "off",
        } | dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where the REST API is, up to and with `/v1`."""
        return f"{self._origin}/v1"

    @property
    def _origin(self) -> str:
        scheme = "https" if "ASSISTANTS_TLS_CERT" in self.env else "http"
        return f"{scheme}://{self.env['ASSISTANTS_HTTP_ADDRESS']}"

    @property
    def database(self) -> Path:
        """Where its database is, if that is SQLite's."""
        return Path(self.env["ASSISTANTS_DATA_DIR"]) / "assistants.db"

    @property
    def grpc_address(self) -> str:
        """Where the gRPC API is: HOST:PORT."""
        return self.env["ASSISTANTS_GRPC_ADDRESS"]

    def spawn(self) -> subprocess.Popen[bytes]:
        """Starts the server without waiting: for tests of how it fails."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ASSISTANTS_")}
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                env=inherited | self.env,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def start(self) -> Self:
        """Starts the server and waits until it serves. Raises StartFailed."""
        self.spawn()
        return self.await_start()

    def await_start(self) -> Self:
        """Waits until the server serves that was spawned. Raises StartFailed."""
        assert self.process is not None
        process = self.process
        deadline = time.monotonic() + START_SECONDS
        while not self.healthy():
            if process.poll() is not None:
                raise StartFailed(f"exit code {process.returncode}\n{self.printed()}")
            if time.monotonic() > deadline:
                self.kill()
                raise StartFailed(f"not ready after {START_SECONDS} s\n{self.printed()}")
            time.sleep(0.05)
        return self

    def healthy(self) -> bool:
        """Whether `GET /healthz` answers 200."""
        # Of whatever certificate it has: those who ask for more trust nobody else.
        context = ssl._create_unverified_context()
        try:
            with urllib.request.urlopen(
                f"{self._origin}/healthz", timeout=5, context=context
            ) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def printed(self) -> str:
        """Everything that the server has printed."""
        return self.output.read_text(errors="replace")

    def terminate(self) -> int:
        """Sends SIGTERM to the server, and returns its exit code once it has."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the server without warning. Its data stays."""
        self._end(signal.SIGKILL)

    def delete(self) -> None:
        """Kills what runs, and deletes the data, in which no secret may be."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        try:
            secret.check_files(self.directory)
            secret.check_noted()
        finally:
            shutil.rmtree(self.directory)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        secret.check_commands()
        if address := self.env.get("ASSISTANTS_METRICS_ADDRESS"):
            # One that has died has none any more.
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page,
            ):
                secret.note(page.read().decode())
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.delete()


@contextlib.contextmanager
def serving(env: Mapping[str, str]) -> Iterator[Stack]:
    """Gives a server with these settings that serves, and that must end well, too."""
    with Stack(env) as stack:
        yield stack.start()
        assert stack.terminate() == 0, stack.printed()
