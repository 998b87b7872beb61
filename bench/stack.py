"""What the bench measures, and what it needs beside: servers, the model, and their processes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa

from bench import processes, profiler
from service.process.child import dying_with_parent
from tests.support.postgres import Postgres
from tests.support.stack import Stack

SERVER: Final = (sys.executable, "-m", "bench.server")
"""What runs a server, or the parent of several; its argument is how many."""
PATIENCE: Final = 300
"""Seconds that a call of the bench's own may take."""


class CallError(Exception):
    """A call of the bench's own failed; the message says how."""


class Model:
    """The bench's model server (`bench.model`), in a process of its own."""

    def __init__(self) -> None:
        """Starts it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.model"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()

    def wait_for(self, answering: int) -> None:
        """Waits until so many answers are under way, no more and no fewer."""
        url = self.base_url.removesuffix("/v1") + "/open"
        deadline = time.monotonic() + PATIENCE
        while (under_way := _json(url)["open"]) != answering:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{under_way} answers are under way, not {answering}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it."""
        self._process.communicate()


@dataclass(slots=True)
class Cost:
    """CPU seconds that a server took, by process."""

    python: float = 0.0
    envoy: float = 0.0
    postgresql: float | None = None
    """None on SQLite, which is part of the Python process."""

    @property
    def python_and_database(self) -> float:
        """What grows with what is stored."""
        return self.python + (self.postgresql or 0.0)


class Server:
    """One server of the bench: the real one, with the no-op beside it."""

    def __init__(
        self,
        model_url: str,
        settings: Mapping[str, str],
        postgres: Postgres | None,
        processes: int = 1,
    ) -> None:
        """Makes its database. Starts nothing yet. It will have so many processes of Python."""
        env = {"ASSISTANTS_MODEL_BASE_URL": model_url} | dict(settings)
        self._postgres = postgres
        self._database: str | None = None
        if postgres is not None:
            self._database = postgres.create_database("template0")
            env["ASSISTANTS_DATABASE_URL"] = postgres.url(self._database)
        # However the bench ends, no server is left.
        self.stack = Stack(env, dying_with_parent([*SERVER, str(processes)]))
        self._alone = processes == 1
        self._profile = self.stack.directory / "profile"
        self.stack.env[profiler.FILE] = str(self._profile)
        self.key = env.get("ASSISTANTS_BOOTSTRAP_KEY", "")
        """What calls bring where the server wants keys."""
        self.profile = ""
        """The last profile that was taken."""

    def start(self) -> Self:
        """Starts the processes, and waits until they serve."""
        self.stack.start()
        assert self.stack.process is not None
        parent = self.stack.process.pid
        self.envoy = processes.child_named(parent, "envoy")
        self._servers = [parent] if self._alone else processes.children_named(parent, "python")
        self.python = self._servers[0]
        return self

    def stop(self) -> None:
        """Ends the processes in good order. The data stays."""
        if code := self.stack.terminate():
            raise CallError(f"exit code {code}\n{self.stack.printed()}")

    def delete(self) -> None:
        """Ends what runs, and deletes the data."""
        self.stack.delete()
        if self._postgres is not None and self._database is not None:
            self._postgres.drop_database(self._database)

    @property
    def postgres_pid(self) -> int:
        """The process that all of PostgreSQL's descend from."""
        assert self._postgres is not None
        return self._postgres.pid

    def url(self, path: str) -> str:
        """Returns the URL of a path of the REST API, such as `/threads`."""
        return self.stack.base_url + path

    def get(self, path: str) -> Any:
        """Returns the JSON of a GET."""
        return _json(self.url(path), key=self.key)

    def post(self, path: str, body: object) -> Any:
        """Returns the JSON that a POST is answered with."""
        return _json(self.url(path), body, key=self.key)

    def stream(self, path: str, body: object) -> str:
        """Returns the events that a POST is answered with."""
        return _read(self.url(path), body, key=self.key).decode()

    def remove(self, path: str) -> Any:
        """Returns the JSON that a DELETE is answered with."""
        return _json(self.url(path), verb="DELETE", key=self.key)

    def assistant(self, model: str) -> str:
        """Returns the id of a new assistant of a model."""
        return str(self.post("/assistants", {"model": model})["id"])

    @property
    def database_url(self) -> str:
        """Where its database is."""
        if self._postgres is not None and self._database is not None:
            return self._postgres.url(self._database)
        return f"sqlite:///{self.stack.env['ASSISTANTS_DATA_DIR']}/assistants.db"

    def engine(self) -> sa.Engine:
        """Returns what fills the database while the server is stopped."""
        url = sa.make_url(self.database_url)
        if url.get_backend_name() == "sqlite":
            return sa.create_engine(url)
        return sa.create_engine(url.set(drivername="postgresql+psycopg"))

    @contextmanager
    def watch(self, *, profiled: bool = False) -> Iterator[Cost]:
        """Counts what happens meanwhile, and takes a profile of it, if asked to."""
        cost = Cost()
        if profiled:
            os.kill(self.python, signal.SIGUSR1)
        before = self._cpu()
        yield cost
        after = self._cpu()
        cost.python = after.python - before.python
        cost.envoy = after.envoy - before.envoy
        if after.postgresql is not None and before.postgresql is not None:
            cost.postgresql = after.postgresql - before.postgresql
        if profiled:
            os.kill(self.python, signal.SIGUSR2)
            self.profile = self._taken()

    def _cpu(self) -> Cost:
        database = None
        if self._postgres is not None:
            database = processes.cpu_seconds_of_family(self._postgres.pid)
        python = sum(map(processes.cpu_seconds, self._servers))
        return Cost(python, processes.cpu_seconds(self.envoy), database)

    def _taken(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while not self._profile.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the server writes no profile")
            time.sleep(0.05)
        text = self._profile.read_text()
        self._profile.unlink()
        return text


def start_postgres(directory: Path) -> Postgres:
    """Starts a PostgreSQL as it comes: with fsync, as the data of a server needs it."""
    return Postgres(directory, settings=())


def _json(url: str, body: object = None, verb: str | None = None, key: str = "") -> Any:
    return json.loads(_read(url, body, verb, key))


def _read(url: str, body: object = None, verb: str | None = None, key: str = "") -> bytes:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, data, headers, method=verb)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        raise CallError(f"{url}: {error.code} {error.read().decode()}") from error
