"""What attacks aim at: files, sockets, memory and signals of a server."""

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECRET = "TOPSECRET"
IPC_RMID = 0
PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class Scene:
    """A server's belongings, and what has happened to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pid = os.getpid()
        self.hits: list[str] = []
        """Sockets that somebody has connected to."""

        self.signals: list[int] = []
        self.database = root / "server.db"
        self.database.write_text(SECRET)
        self.database.chmod(0o600)
        self.other = root / "other"
        self.other.mkdir()
        self.theirs = self.other / "theirs.txt"
        self.theirs.write_text(SECRET)
        self.socket_path = root / "edge.sock"
        self.abstract = f"sandbox-{self.pid}"
        self._sockets = [
            self._listen(socket.AF_INET, ("127.0.0.1", 0)),
            self._listen(socket.AF_UNIX, os.fspath(self.socket_path)),
            self._listen(socket.AF_UNIX, "\0" + self.abstract),
        ]
        self.socket_path.chmod(0o777)
        self.port = self._sockets[0].getsockname()[1]
        self.shared = 0x43490000 + self.pid % 60000
        """The key of a System V shared memory segment."""

        self._segment = _libc.shmget(self.shared, PAGE, 0o1600)
        self._before = self._state()

    def _listen(
        self, family: socket.AddressFamily, address: tuple[str, int] | str
    ) -> socket.socket:
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen(8)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    self.hits.append(repr(listener.getsockname()))
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()
        return listener

    def _state(self) -> object:
        secret, other = self.database.stat(), self.other.stat()
        return (
            self.database.read_text(),
            (secret.st_mode, secret.st_mtime, secret.st_uid, secret.st_nlink),
            (other.st_mode, sorted(os.listdir(self.other))),
            os.listxattr(self.database),
            os.sched_getaffinity(0),
            os.getpriority(os.PRIO_PROCESS, 0),
        )

    @property
    def touched(self) -> bool:
        """Whether the server's files, priority or processors have changed."""
        try:
            return self._state() != self._before
        except OSError:
            return True

    def restore(self) -> None:
        """Puts back what an attack has changed."""
        renamed = Path(f"{self.database}2")
        if renamed.exists():
            renamed.rename(self.database)
        self.database.write_text(SECRET)
        self.database.chmod(0o600)
        self.other.chmod(0o755)
        self.theirs.write_text(SECRET)
        with contextlib.suppress(OSError):
            os.removexattr(self.database, "user.x")
        self.hits.clear()
        self.signals.clear()
        self._before = self._state()

    def close(self) -> None:
        """Removes what outlives files."""
        for each in self._sockets:
            # close alone does not wake the thread that accepts.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        _libc.shmctl(self._segment, IPC_RMID, None)


@contextmanager
def scene(root: Path) -> Iterator[Scene]:
    """A scene below a folder. Signals that attacks send arrive in it."""
    made = Scene(root)
    handled = (signal.SIGWINCH, signal.SIGIO)
    before = [
        signal.signal(number, lambda number, _: made.signals.append(number)) for number in handled
    ]
    os.environ["SERVER_KEY"] = SECRET
    try:
        yield made
    finally:
        del os.environ["SERVER_KEY"]
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
        made.close()
