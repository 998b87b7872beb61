"""Which servers are trusted."""

import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.models import tls
from service.models.client import ChatModel
from tests.models.conftest import KEY
from tests.models.test_client import answer, failure, request
from tests.models.test_proxies import ANSWER, CERTIFICATES, STREAM
from tests.support.models.raw_server import RawServer, raw_server

AUTHORITY = CERTIFICATES / "authority.pem"
HASH = "774b5dcc.0"
"""The name under which OpenSSL looks for the authority in a directory."""

UNTRUSTED = ("server_error", "The connection to the model server failed.")


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes what the environment trusts away."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


@pytest.fixture
async def secure() -> AsyncIterator[RawServer]:
    """A server with TLS, whose certificate is for `127.0.0.1`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    async with raw_server(context) as raw:
        raw.answer(STREAM)
        yield raw


async def test_a_file(secure: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    model = ChatModel(secure.base_url, KEY, idle_timeout=60)
    assert await answer(model, request()) == ANSWER
    await model.close()


async def test_a_directory(
    secure: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(AUTHORITY, tmp_path / HASH)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    model = ChatModel(secure.base_url, KEY, idle_timeout=60)
    assert await answer(model, request()) == ANSWER
    await model.close()


async def test_a_server_without_a_trusted_certificate(secure: RawServer) -> None:
    model = ChatModel(secure.base_url, KEY, idle_timeout=60)
    assert await failure(model, request()) == UNTRUSTED
    await model.close()
    assert secure.requests == []


async def test_another_servers_certificate(
    secure: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    model = ChatModel(secure.base_url.replace("127.0.0.1", "localhost"), KEY, idle_timeout=60)
    assert await failure(model, request()) == UNTRUSTED
    await model.close()
    assert secure.requests == []


def test_no_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"^SSL_CERT_FILE: .*missing: No such file"):
        tls.context()
    (tmp_path / "empty").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty"))
    with pytest.raises(SettingsError, match=r"^SSL_CERT_FILE: .*empty: "):
        tls.context()


def test_the_systems_certificates() -> None:
    assert tls.context().verify_mode == ssl.CERT_REQUIRED
    assert tls.context().check_hostname
