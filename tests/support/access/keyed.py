"""A server that wants keys, and the command line beside it."""

import os
import subprocess
from dataclasses import dataclass

from tests.support.secret import keep_secret
from tests.support.stack import COMMAND, Stack


def command(stack: Stack, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Runs `assistants` on the database of a server, which need not run."""
    return subprocess.run(
        [COMMAND, *argv],
        env=os.environ | stack.env,
        cwd=stack.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@dataclass(frozen=True)
class Key:
    """A key: its id and its text, as `keys create` prints them."""

    id: str
    text: str

    @classmethod
    def create(cls, stack: Stack, project: str, *options: str) -> "Key":
        """Makes one by the command line."""
        done = command(stack, "keys", "create", "--project", project, *options)
        assert done.returncode == 0, done.stderr
        text = done.stdout.removesuffix("\n")
        keep_secret(text)
        return cls(done.stderr.split()[0], text)
