"""The connection to NATS: who it is let in as, whom it trusts, and that it waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.runner import connection as connection_module
from service.runner.connection import Connection, NatsSettings
from tests.models.test_proxies import CERTIFICATES
from tests.support import nats_keys
from tests.support.nats import Nats

AUTHORITY = CERTIFICATES / "authority.pem"


@contextlib.contextmanager
def serving(directory: Path, *options: str | Path, login: str = "") -> Iterator[Nats]:
    server = Nats(directory, *map(str, options), login=login)
    try:
        yield server
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def connected(
    url: str, credentials: Path | None = None, ca: Path | None = None
) -> AsyncIterator[Connection]:
    connection = Connection(NatsSettings(servers=(url,), credentials=credentials, ca=ca))
    stream = connection.add_stream("test", subjects=["test.*"])
    assert stream == "assistants-test"
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there may take its time to say so."""
    monkeypatch.setattr(connection_module, "START_SECONDS", 60.0)


async def test_a_name_and_a_password(tmp_path: Path) -> None:
    with serving(tmp_path, login="me:not-a-secret") as nats:
        async with connected(nats.url) as connection:
            await connection.wait_up()
        with pytest.raises(SettingsError, match=r"ASSISTANTS_NATS_URL: .*Authorization"):
            async with connected(nats.url.replace("secret", "guess")):
                pass


async def test_credentials(tmp_path: Path) -> None:
    config, credentials = nats_keys.make(tmp_path)
    with serving(tmp_path, "-c", config) as nats:
        async with connected(nats.url, credentials=credentials) as connection:
            await connection.wait_up()
        with pytest.raises(SettingsError, match="Authorization"):
            async with connected(nats.url):
                pass
        with pytest.raises(SettingsError, match=r"NATS_CREDENTIALS: .*No such file"):
            async with connected(nats.url, credentials=tmp_path / "none"):
                pass


async def test_tls(tmp_path: Path) -> None:
    pair = CERTIFICATES / "server.pem"
    with serving(tmp_path, "--tls", "--tlscert", pair, "--tlskey", pair) as nats:
        url = f"tls://127.0.0.1:{nats.port}"
        async with connected(url, ca=AUTHORITY) as connection:
            await connection.wait_up()
        with pytest.raises(SettingsError, match="certificate"):
            async with connected(url):
                pass


async def test_what_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "START_SECONDS", 0.5)
    with serving(tmp_path) as nats:
        nats.kill()
        async with connected(nats.url) as connection:
            assert not connection.up
            nats.start()
            async with asyncio.timeout(60):
                await connection.wait_up()


async def test_streams_are_made_and_configured_again(tmp_path: Path) -> None:
    with serving(tmp_path) as nats:
        for limit in (2**20, 2**21, 2**21):
            connection = Connection(NatsSettings(servers=(nats.url,)))
            connection.add_stream("test", subjects=["test.*"], max_bytes=limit)
            await connection.open()
            info = await connection.client().jetstream().stream_info("assistants-test")
            assert info.config.max_bytes == limit
            await connection.close()
        connection = Connection(NatsSettings(servers=(nats.url,), replicas=3))
        connection.add_stream("other", subjects=["other.*"])
        with pytest.raises(SettingsError, match="replicas"):
            await connection.open()
