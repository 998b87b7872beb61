"""Proxies from the environment."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from service.errors import SettingsError
from service.models.client import ChatModel, Finished, TextDelta
from service.models.proxies import proxy_of
from tests.models.conftest import KEY
from tests.models.test_client import answer, failure, request
from tests.support.models.proxy import Proxy, proxy_to
from tests.support.models.raw_server import SILENCE, RawServer, choice, events, raw_server

CERTIFICATES = Path(__file__).with_name("certificates")
STREAM = events(choice(content="x"), choice("stop"), "[DONE]")
ANSWER = [TextDelta("x"), Finished("stop", None)]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes those of the environment away."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://model.example/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://model.example/v1", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://model.example/v1", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://model.example/v1", "http://p:1"),
        ({"HTTPS_PROXY": "https://u:w@p"}, "https://model.example/v1", "https://u:w@p"),
        ({"HTTPS_PROXY": ""}, "https://model.example/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://model.example/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://model.example/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "http://model.example/v1", "http://p:1"),
        (
            {"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"},
            "https://model.example/v1",
            "http://q:2",
        ),
        ({"ALL_PROXY": "socks5://p:1", "HTTP_PROXY": "q:2"}, "http://model.example/v1", "http://q:2"),
        ({"ALL_PROXY": "http://p:1"}, "http://localhost:80/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://127.0.0.3:80/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://[::1]:80/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://[fd00::1]:80/v1", "http://p:1"),
    ],
)  # fmt: skip
def test_the_proxy_of_a_server(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(URL(url)) == (None if proxy is None else URL(proxy))


@pytest.mark.parametrize(
    ("entries", "url", "exempt"),
    [
        ("", "https://model.example", False),
        ("*", "https://model.example", True),
        ("model.example", "https://model.example", True),
        ("MODEL.example", "https://model.EXAMPLE", True),
        ("other.example, model.example", "https://model.example", True),
        ("example", "https://model.example", True),
        ("el.example", "https://model.example", False),
        (".example", "https://model.example", True),
        (".model.example", "https://model.example", False),
        ("*.example", "https://model.example", True),
        ("*.model.example", "https://model.example", False),
        ("model.example:443", "https://model.example", True),
        ("model.example:8443", "https://model.example", False),
        ("model.example:8443", "https://model.example:8443", True),
        ("https://model.example", "https://model.example", True),
        ("http://model.example", "https://model.example", False),
        ("all://model.example", "https://model.example", True),
        ("https://example", "https://model.example", False),
        ("10.0.0.1", "https://10.0.0.1", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://model.example", False),
        ("10.0.0.1:8443", "https://10.0.0.1:8443", True),
        ("fd00::1", "https://[fd00::1]", True),
        ("fd00::/8", "https://[fd00::1]", True),
        ("[fd00::1]", "https://[fd00::1]", True),
        ("[fd00::1]:443", "https://[fd00::1]", True),
        ("[fd00::1]:80", "https://[fd00::1]", False),
        ("fd00::/8, , :, [, ://, /", "https://model.example", False),
    ],
)
def test_servers_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, entries: str, url: str, exempt: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert (proxy_of(URL(url)) is None) == exempt


@pytest.mark.parametrize("proxy", ["socks5://proxy:1", "http://", "http://proxy:port", "ftp://p"])
def test_what_is_no_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SettingsError, match=r"^HTTPS_PROXY: "):
        proxy_of(URL("https://model.example"))


async def test_a_server_behind_a_proxy(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS, the proxy is asked for what the server would be asked."""
    monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{raw.port}")
    raw.answer(STREAM)
    model = ChatModel("http://model.example/v1", KEY, idle_timeout=60)
    assert await answer(model, request()) == ANSWER
    await model.close()
    head = raw.requests[0].lower()
    assert head.startswith("post http://model.example/v1/chat/completions http/1.1\r\n")
    assert f"\r\nauthorization: bearer {KEY}\r\n" in head
    word = base64.b64encode(b"user:word").decode()
    assert f"\r\nProxy-Authorization: Basic {word}\r\n" in raw.requests[0]


@pytest.fixture
async def tunnel(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RawServer, Proxy]]:
    """A server with TLS, which only a proxy leads to."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATES / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))
    async with raw_server(tls) as raw, proxy_to(raw.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@{proxy.address}")
        yield raw, proxy


@pytest.fixture
async def hidden(tunnel: tuple[RawServer, Proxy]) -> AsyncIterator[ChatModel]:
    """The client of that server."""
    model = ChatModel("https://model.example/v1", KEY, idle_timeout=60)
    yield model
    await model.close()


async def test_a_tunnel(tunnel: tuple[RawServer, Proxy], hidden: ChatModel) -> None:
    raw, proxy = tunnel
    raw.answer(STREAM)
    assert await answer(hidden, request()) == ANSWER
    [head] = proxy.heads
    assert head.startswith("CONNECT model.example:443 HTTP/1.1\r\n")
    word = base64.b64encode(b"user:word").decode()
    assert f"\r\nProxy-Authorization: Basic {word}\r\n" in head
    # The proxy's business is not the server's, nor the other way round.
    assert KEY not in head
    assert "Proxy-Authorization" not in raw.requests[0]
    assert raw.requests[0].startswith("POST /v1/chat/completions HTTP/1.1\r\n")


async def test_a_proxy_that_refuses(tunnel: tuple[RawServer, Proxy], hidden: ChatModel) -> None:
    tunnel[1].refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    broken = "The connection to the model server failed."
    assert await failure(hidden, request()) == ("server_error", broken)


@pytest.mark.parametrize("sent", [(), (events(choice(content="x")),)], ids=["all", "text"])
async def test_closing_ends_a_tunnel_at_once(
    tunnel: tuple[RawServer, Proxy], hidden: ChatModel, sent: tuple[bytes, ...]
) -> None:
    """Without the server's part in the end of TLS, which never arrives."""
    raw, proxy = tunnel
    raw.answer(*sent, SILENCE)
    task = asyncio.create_task(answer(hidden, request()))
    async with asyncio.timeout(20):
        while not raw.requests:
            await asyncio.sleep(0.01)
        proxy.deaf = True
        task.cancel()
        await asyncio.wait({task})
        await proxy.disconnected.wait()
