"""A link to a server, over TCP, that can stall, which keeps what is sent, and drop connections."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self

from sqlalchemy.engine import make_url


class Link:
    """Forwards what comes to a local port, unless it stalls."""

    def __init__(self, family: socket.AddressFamily, there: str | tuple[str, int]) -> None:
        """Leads to a server at this address."""
        self._family, self._there = family, there
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._forwards = threading.Event()
        self._forwards.set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def stall(self) -> None:
        """Keeps from now on what either side sends."""
        self._forwards.clear()

    def resume(self) -> None:
        """Forwards again, what was kept first."""
        self._forwards.set()

    def drop(self) -> None:
        """Drops all connections, with what is on its way. New ones can be made at once."""
        with self._lock:
            for each in self._sockets:
                _shut(each)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._listener.close()
        self.drop()
        self.resume()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        """Forwards both ways until either side has closed."""
        with near, socket.socket(self._family) as far:
            ends = {near, far}
            with self._lock:
                self._sockets |= ends
            try:
                with contextlib.suppress(OSError):
                    far.connect(self._there)
                    back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
                    back.start()
                    self._pump(near, far)
                    back.join()
            finally:
                with self._lock:
                    self._sockets -= ends

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                self._forwards.wait()
                sink.sendall(data)
        # What one side has closed is over for the other.
        _shut(source)
        _shut(sink)


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


class DatabaseLink(Link):
    """A link to a PostgreSQL server that listens on a Unix socket."""

    def __init__(self, url: str) -> None:
        """Leads to the database at this URL; `url` is the link's."""
        there = make_url(url)
        directory = Path(str(there.query["host"]))
        path = next(each for each in directory.glob(".s.PGSQL.*") if each.suffix != ".lock")
        super().__init__(socket.AF_UNIX, str(path))
        through = there.set(host="127.0.0.1", port=self.port, query={})
        self.url = through.render_as_string(hide_password=False)


class NatsLink(Link):
    """A link to a NATS server."""

    def __init__(self, port: int) -> None:
        """Leads to a local port; `url` is the link's."""
        super().__init__(socket.AF_INET, ("127.0.0.1", port))
        self.url = f"nats://127.0.0.1:{self.port}"
