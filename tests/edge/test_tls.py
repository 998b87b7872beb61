"""TLS on both ports: REST and gRPC, certificates that are replaced, callers that must have one."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import openai
import pytest

from tests.serve.test_failures import MODEL, refusal
from tests.support.grpc.stubs import Stubs
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.stack import COMMAND, Stack
from tests.support.waiting import until

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
PORTS = ["ASSISTANTS_HTTP_ADDRESS", "ASSISTANTS_GRPC_ADDRESS"]


@pytest.fixture(scope="module")
def secure(model_server: ModelServer) -> Iterator[Stack]:
    """A server with a certificate that tests may replace; gRPC callers need one, too."""
    with Stack({"ASSISTANTS_MODEL_BASE_URL": model_server.base_url}) as stack:
        pair, authorities = stack.directory / "pair.pem", stack.directory / "authorities.pem"
        shutil.copy(CERTIFICATES / "first.pem", pair)
        shutil.copy(AUTHORITY, authorities)
        stack.env |= {
            "ASSISTANTS_TLS_CERT": str(pair),
            "ASSISTANTS_TLS_KEY": str(pair),
            "ASSISTANTS_TLS_CLIENT_CA": str(authorities),
        }
        yield stack.start()
        assert stack.terminate() == 0, stack.printed()


def rest(stack: Stack) -> openai.OpenAI:
    """OpenAI's client, which trusts the authority of the tests."""
    trusting = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(AUTHORITY)))
    return openai.OpenAI(base_url=stack.base_url, api_key="test", http_client=trusting)


def channel(address: str, own: str | None = None) -> grpc.Channel:
    """A connection of its own, with a certificate of its own if it is named."""
    pem = None if own is None else (CERTIFICATES / f"{own}.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(AUTHORITY.read_bytes(), pem, pem)
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(address, credentials, options)


def test_both_transports_on_one_port(secure: Stack) -> None:
    with rest(secure) as client:
        thread = client.beta.threads.create(metadata={"a": "b"})
    with channel(secure.env["ASSISTANTS_HTTP_ADDRESS"]) as connection:
        assert Stubs(connection).thread().id != thread.id


@pytest.mark.parametrize("port", PORTS)
def test_nothing_is_said_without_tls(secure: Stack, port: str) -> None:
    host, _, number = secure.env[port].rpartition(":")
    with socket.create_connection((host, int(number)), timeout=60) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(100)
    with grpc.insecure_channel(secure.env[port]) as connection, pytest.raises(grpc.RpcError):
        Stubs(connection).thread()


def test_callers_of_grpc_need_a_certificate(secure: Stack) -> None:
    with channel(secure.grpc_address, "client") as connection:
        assert Stubs(connection).thread().id
    for own in (None, "intruder"):
        assert not admitted(secure, own)


def admitted(stack: Stack, own: str | None) -> bool:
    """Whether a new connection to the port of gRPC is served."""
    with channel(stack.grpc_address, own) as connection:
        try:
            Stubs(connection).thread()
        except grpc.RpcError as refused:
            assert isinstance(refused, grpc.Call)
            assert refused.code() == grpc.StatusCode.UNAVAILABLE
            return False
        return True


def test_many_connect_at_once(secure: Stack) -> None:
    """Each looks whether the certificate is another now."""
    context = ssl.create_default_context(cafile=str(AUTHORITY))
    context.load_cert_chain(CERTIFICATES / "client.pem")
    context.check_hostname = False
    host, _, port = secure.grpc_address.rpartition(":")

    def shake_hands(_: int) -> None:
        with socket.create_connection((host, int(port)), timeout=60) as plain:
            context.wrap_socket(plain).close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(shake_hands, range(2000)))
    assert admitted(secure, "client")


async def test_authorities_that_are_replaced(secure: Stack) -> None:
    """Connections that are open go on."""
    file = Path(secure.env["ASSISTANTS_TLS_CLIENT_CA"])
    with channel(secure.grpc_address, "client") as connection:
        stubs = Stubs(connection)
        stubs.thread()
        # It has issued nobody's certificate.
        shutil.copy(CERTIFICATES / "first.pem", file)
        assert not admitted(secure, "client")
        file.write_text("none")
        assert not admitted(secure, "client")
        assert "authorities of callers not reloaded" in secure.printed()
        stubs.thread()
        shutil.copy(AUTHORITY, file)
        assert admitted(secure, "client")
        assert not admitted(secure, "intruder")


def test_chat_with_tls(secure: Stack, models: ModelServer) -> None:
    """By the address, with SSL_CERT_FILE; by the server's settings, with its own certificate."""
    with channel(secure.env["ASSISTANTS_HTTP_ADDRESS"]) as connection:
        assistant = Stubs(connection).assistant(models.script(*[Answer("Hello there")] * 2))
    place = secure.env["ASSISTANTS_HTTP_ADDRESS"]
    chain = secure.directory / "chain.pem"
    chain.write_bytes((CERTIFICATES / "first.pem").read_bytes() + AUTHORITY.read_bytes())
    trusted = {"SSL_CERT_FILE": str(AUTHORITY)}
    for options, env, shown in (
        (["--address", f"https://{place}"], trusted, "Hello there"),
        ([], secure.env | {"ASSISTANTS_TLS_CERT": str(chain)}, "Hello there"),
        (["--address", f"https://{place}"], {}, f"{place}: "),
        (["--address", place], trusted, f"{place}: "),
        (["--address", "ftp://x"], trusted, "neither HOST:PORT nor"),
    ):
        done = subprocess.run(
            [COMMAND, "chat", "--assistant", assistant.id, *options],
            env=os.environ | env,
            input="Hi\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert shown in done.stdout + done.stderr
        assert done.returncode == (0 if shown == "Hello there" else 2), done


def shows(stack: Stack, name: str) -> bool:
    """Whether new connections to both ports meet this certificate."""
    pem = (CERTIFICATES / f"{name}.pem").read_text()
    expected = ssl.PEM_cert_to_DER_cert(pem.partition("-----BEGIN PRIVATE KEY-----")[0])
    return all(_shown(stack.env[port]) == expected for port in PORTS)


def _shown(address: str) -> bytes | None:
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(AUTHORITY))
    # gRPC's server takes no other protocol.
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(CERTIFICATES / "client.pem")
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True)


async def test_certificates_that_are_replaced(secure: Stack, models: ModelServer) -> None:
    """By a rename and in place; streams go on, and what is no pair is not taken."""
    pair = Path(secure.env["ASSISTANTS_TLS_CERT"])
    hold = Hold(Answer("Hello there"), after="Hello")
    with rest(secure) as client, ThreadPoolExecutor() as threads:
        assistant = client.beta.assistants.create(model=models.script(hold))
        events = client.beta.threads.create_and_run(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "Hi"}]},
            stream=True,
        )
        reading = threads.submit(lambda: [event.event for event in events])
        await until(hold.held.is_set)
        shutil.copy(CERTIFICATES / "second.pem", pair.with_suffix(".new"))
        pair.with_suffix(".new").rename(pair)
        await until(lambda: shows(secure, "second"))
        shutil.copy(CERTIFICATES / "first.pem", pair)
        await until(lambda: shows(secure, "first"))
        pair.write_text("no certificate")
        await until(lambda: "certificate not reloaded" in secure.printed())
        assert shows(secure, "first")
        # With words in no known encoding before it, as certificates have that people print.
        pair.write_bytes(b"Subject: M\xfcller\n" + (CERTIFICATES / "second.pem").read_bytes())
        await until(lambda: shows(secure, "second"))
        hold.release()
        assert reading.result(60)[-1] == "thread.run.completed"


async def test_a_copy_that_cannot_be_written(secure: Stack) -> None:
    """It is written when it can be, though the files have not changed again."""
    pair = Path(secure.env["ASSISTANTS_TLS_CERT"])
    in_the_way = Path(secure.env["ASSISTANTS_DATA_DIR"]) / "tls-server.new"
    shutil.copy(CERTIFICATES / "first.pem", pair)
    await until(lambda: shows(secure, "first"))
    in_the_way.mkdir()
    shutil.copy(CERTIFICATES / "second.pem", pair)
    await until(lambda: "tls-server.json: " in secure.printed())
    in_the_way.rmdir()
    await until(lambda: shows(secure, "second"))


@pytest.mark.parametrize(
    ("cert", "key", "ca", "line"),
    [
        ("first", None, None, "ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY: one needs the other"),
        ("no", "no", None, "ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY: No such file or directory"),
        ("first", "second", None, "ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY: [X509: KEY_VALUES_MI"),
        (None, None, "authority", "ASSISTANTS_TLS_CLIENT_CA: needs ASSISTANTS_TLS_CERT"),
        ("first", "first", "no", "ASSISTANTS_TLS_CLIENT_CA: No such file or directory"),
    ],
)
def test_certificates_that_are_none(
    cert: str | None, key: str | None, ca: str | None, line: str
) -> None:
    given = {"CERT": cert, "KEY": key, "CLIENT_CA": ca}
    settings = {
        f"ASSISTANTS_TLS_{name}": str(CERTIFICATES / f"{value}.pem")
        for name, value in given.items()
        if value is not None
    }
    assert refusal(MODEL | settings).startswith(line)
