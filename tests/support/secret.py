"""The secrets of tests: whatever servers write, none of them may be in it."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

_known: set[str] = set()
_noted: list[str] = []


def new_secret(prefix: str = "sk-") -> str:
    """Returns a secret that nobody else has, and that is looked for from now on."""
    value = f"{prefix}{secrets.token_hex(16)}"
    keep_secret(value)
    return value


def keep_secret(value: str) -> None:
    """Has a secret that was made elsewhere looked for, too."""
    _known.add(value)


def check_text(text: str) -> None:
    """Fails if a secret is in the text."""
    assert not [value for value in _known if value in text], text


def note(text: str) -> None:
    """Keeps what a server has sent to others, to be looked through when a server ends."""
    _noted.append(text)


def check_noted() -> None:
    """Fails if a secret is in what was noted since the last time."""
    while _noted:
        check_text(_noted.pop())


def check_files(directory: Path) -> None:
    """Fails if a secret is in a file below the directory: logs, configurations, databases."""
    for file in directory.rglob("*"):
        with contextlib.suppress(OSError):
            if file.is_file():
                data = file.read_bytes()
                assert not [value for value in _known if value.encode() in data], file


def check_commands() -> None:
    """Fails if a secret is in the command line of any process."""
    for command in _commands():
        check_text(command)


def _commands() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_text(errors="replace")
