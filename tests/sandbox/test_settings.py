"""Settings of the code interpreter, as operators give them."""

from pathlib import Path

import pytest

from service.errors import SettingsError
from service.sandbox.limits import MIB, Lifetimes, Limits
from service.sandbox.settings import SandboxSettings
from service.settings import Settings


def test_defaults_are_those_of_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANTS_DATA_DIR", "/data")
    assert Settings.load().code_interpreter == SandboxSettings(Path("/data/threads"))


def test_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "SANDBOX": "command",
        "SANDBOX_COMMAND": "docker run -i --label='a b' IMAGE",
        "INTERPRETER_PYTHON": "/opt/python",
        "SANDBOX_SECONDS": "5",
        "SANDBOX_MEMORY_MIB": "200",
        "SANDBOX_DISK_MIB": "20",
        "SANDBOX_FILES": "30",
        "SANDBOX_PROCESSES": "40",
        "SANDBOX_OUTPUT_MIB": "6",
        "SANDBOX_SESSIONS": "7",
        "SANDBOX_IDLE_SECONDS": "8",
        "SANDBOX_AGE_SECONDS": "9",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"ASSISTANTS_{name}", value)
    assert Settings.load().code_interpreter == SandboxSettings(
        Path("data/threads"),
        engine="command",
        command=("docker", "run", "-i", "--label=a b", "IMAGE"),
        python=Path("/opt/python"),
        limits=Limits(
            seconds=5,
            memory=200 * MIB,
            disk=20 * MIB,
            files=30,
            processes=40,
            output=6 * MIB,
        ),
        lifetimes=Lifetimes(sessions=7, idle_seconds=8, age_seconds=9),
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SANDBOX", "docker", "ASSISTANTS_SANDBOX: Input should be 'auto', 'command' or 'off'"),
        ("SANDBOX", "command", "ASSISTANTS_SANDBOX=command needs ASSISTANTS_SANDBOX_COMMAND"),
        ("SANDBOX_COMMAND", "docker 'run", "ASSISTANTS_SANDBOX_COMMAND: no command with arguments"),
        ("SANDBOX_MEMORY_MIB", "1", "ASSISTANTS_SANDBOX_MEMORY_MIB: Input should be greater"),
    ],
)
def test_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"ASSISTANTS_{name}", value)
    with pytest.raises(SettingsError, match=message):
        Settings.load()
