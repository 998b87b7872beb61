"""`envoy -c envoy.yaml`, from the repository's root, against a server with the default settings."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import gateway
from gateway import descriptor, envoy
from service.settings import Settings

ROOT = Path(gateway.__file__).parent.parent


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_envoy_accepts_the_file() -> None:
    program, *_ = envoy.command(ROOT / "envoy.yaml")
    command = [program, "-c", "envoy.yaml", "--mode", "validate", "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def absolute(config: Any) -> Any:
    """Returns the configuration with absolute paths: generated files where serve has them."""
    match config:
        case dict():
            return {key: absolute(value) for key, value in config.items()}
        case list():
            return [absolute(value) for value in config]
        case "gateway/rest.lua" | "gateway/rest.binpb":
            return str(ROOT / "data" / Path(config).name)
        case "data/edge.sock" | "data/grpc.sock":
            return str(ROOT / config)
        case _:
            return config


def test_it_is_what_serve_runs_with_the_defaults() -> None:
    by_hand = yaml.safe_load(Path("envoy.yaml").read_text())
    text = str(by_hand)
    assert "127.0.0.1" in text
    served = envoy.configuration(Settings())
    # Each has copies of the generated files in a place of its own.
    assert "gateway/rest.binpb" in text
    assert "gateway/rest.lua" in text
    assert str(absolute(by_hand)) == str(served)


def test_the_generated_files_are_up_to_date(tmp_path: Path) -> None:
    descriptor.write(tmp_path / "rest.binpb")
    descriptor.write_edge(tmp_path / "rest.lua")
    for name in ("rest.binpb", "rest.lua"):
        assert (tmp_path / name).read_bytes() == (Path("gateway") / name).read_bytes()
