"""A real NATS server for tests: one per pytest worker, other names of streams for each service."""

import contextlib
import itertools
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.ports import free_port

COMMAND = Path(sys.executable).parent / "nats-server"
START_SECONDS = 30


class Nats:
    """A server with JetStream and a store, which outlives restarts."""

    def __init__(self, directory: Path, *options: str, login: str = "") -> None:
        """Starts a server with these options on a free port, its store in `directory`.

        `login` is a name and a password, NAME:PASSWORD, if it is to want them.
        """
        self.directory = directory
        self.port = free_port()
        self._login = f"{login}@" if login else ""
        if login:
            name, password = login.split(":")
            config = directory / "nats.conf"
            # No command line has them.
            config.write_text(f'authorization {{ user: {name}, password: "{password}" }}\n')
            options = (*options, "-c", str(config))
        self._options = options
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"nats://{self._login}127.0.0.1:{self.port}"

    def prefix(self) -> str:
        """Returns what names of a service that nobody else has may begin with."""
        return f"test{next(self._numbers)}"

    def start(self) -> None:
        """Starts the server, with what its store has, and waits until it is there."""
        where = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.directory)]
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [COMMAND, *where, *self._options], stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert self._process.poll() is None, (self.directory / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills the server without warning. Its store stays."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def forget(self) -> None:
        """Deletes the store of a server that does not run."""
        shutil.rmtree(self.directory / "jetstream")

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[list[Nats]]:
    """Gives three servers that are one cluster."""
    ports = [free_port() for _ in range(3)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    servers = []
    with contextlib.ExitStack() as stack:
        for number, port in enumerate(ports):
            place = directory / f"nats{number}"
            place.mkdir()
            options = ["--server_name", place.name, "--cluster_name", "test", "--routes", routes]
            options += ["--cluster", f"nats://127.0.0.1:{port}"]
            server = Nats(place, *options)
            stack.callback(server.kill)
            servers.append(server)
        yield servers
