"""`assistants chat` as a person uses it: in a terminal, against the real server."""

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.grpc.client import connect
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Hold
from tests.support.stack import COMMAND, Stack, free_address
from tests.support.waiting import until

CTRL_C, CTRL_D = "\x03", "\x04"

# Makes the terminal the program's own, so that Ctrl-C reaches it as a signal. What is started in
# the background, as the tests may be, ignores it unless it sets a handler.
LOGIN = """
import os, signal, sys
os.login_tty(0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, *argv: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, COMMAND, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
        )
        os.close(theirs)
        self.shown = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._ours, keys.encode())

    def code(self) -> int | None:
        """Returns the exit code, once the program has ended and all that it showed is here."""
        return None if self._reader.is_alive() else self.process.poll()

    def close(self) -> None:
        """Kills what still runs."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        # EIO is how the end of a terminal reads.
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 4096):
                self.shown += data.decode(errors="replace")


@pytest.fixture
def terminal(server: Stack, models: ModelServer, held: Hold) -> Iterator[Terminal]:
    """A conversation with an assistant that answers once, and then holds its answer back."""
    with connect(server.grpc_address) as stubs:
        assistant = stubs.assistant(models.script(Answer("Hello there"), held), name="Ann")
    terminal = Terminal("chat", "--address", server.grpc_address, "--assistant", assistant.id)
    yield terminal
    terminal.close()


@pytest.fixture
def held() -> Hold:
    return Hold(Answer("Once upon a time"), after="Once")


async def test_a_conversation(server: Stack, terminal: Terminal, held: Hold) -> None:
    await until(lambda: "you" in terminal.shown)
    assert "Ann" in terminal.shown
    terminal.type("Hi\n")
    await until(lambda: "Hello there" in terminal.shown and terminal.shown.count("you") == 2)

    terminal.type("Tell me a story.\n")
    await until(lambda: "Once" in terminal.shown)
    await until(held.held.is_set)
    terminal.type(CTRL_C)
    await until(held.disconnected.is_set)
    await until(lambda: "cancelled" in terminal.shown and terminal.shown.count("you") == 3)

    # At the prompt it only begins a new line.
    terminal.type(CTRL_C)
    await until(lambda: terminal.shown.count("you") == 4)
    terminal.type(CTRL_D)
    await until(lambda: terminal.code() is not None)
    assert terminal.code() == 0, terminal.shown
    assert "Traceback" not in terminal.shown
    command = terminal.shown.rpartition("To go on: ")[2].strip()
    again = subprocess.run(
        command, shell=True, input="", capture_output=True, text=True, timeout=60, check=False
    )
    assert (again.returncode, again.stderr) == (0, "")
    thread_id = command.rpartition("--thread ")[2]
    assert f"{thread_id}." in again.stdout
    with connect(server.grpc_address) as stubs:
        assert stubs.texts(thread_id) == [
            ("user", "Hi"),
            ("assistant", "Hello there"),
            ("user", "Tell me a story."),
            ("assistant", "Once"),
        ]


async def test_leaving_at_the_menu(server: Stack, terminal: Terminal) -> None:
    await until(lambda: "you" in terminal.shown)  # So there is an assistant to choose.
    chooser = Terminal("chat", "--address", server.grpc_address)
    await until(lambda: "Which assistant?" in chooser.shown)
    chooser.type(CTRL_C)
    await until(lambda: chooser.code() is not None)
    code, shown = chooser.code(), chooser.shown
    chooser.close()
    assert (code, "Traceback" in shown, "Aborted" in shown) == (0, False, False)


def test_a_dead_server() -> None:
    address = free_address()
    done = subprocess.run(
        [COMMAND, "chat", "--address", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"assistants: {address}: ")
