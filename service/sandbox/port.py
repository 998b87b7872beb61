"""The port to the places where the model's Python runs, and what passes through it.

Every engine passes the suite in tests/sandbox/test_conformance.py.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from service.sandbox.folder import Folder


@dataclass(frozen=True, slots=True)
class Text:
    """What the code printed, the value of its last expression, a text that it displayed."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A figure or an image that the code displayed."""

    mime: str
    """`image/png` or `image/jpeg`; the data begin as that format does."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Error:
    """An exception that the code did not catch."""

    name: str
    """The exception's class: `ZeroDivisionError`."""

    value: str
    traceback: str
    """Several lines, without colours, as IPython prints them."""


@dataclass(frozen=True, slots=True)
class End:
    """The last event of every call."""

    interrupted: bool = False
    """The call took longer than it may and was interrupted."""

    lost: str | None = None
    """Why the session ended with this call, as a clause: `it used more than 1024 MiB of memory`.

    None where the session goes on. Variables and imports are gone then, files are not.
    """


Event = Text | Image | Error | End


class SandboxError(Exception):
    """Base class of what this package raises; the message is one line."""


class Unavailable(SandboxError):
    """No code can be run here; the message says why, for the operator."""


class SessionClosed(SandboxError):
    """The session was closed, or had ended before this call."""


class Session(Protocol):
    """One Python interpreter, which keeps its variables from call to call."""

    @property
    def lost(self) -> str | None:
        """Why the session has ended; None while it can run code."""

    def run(self, code: str) -> AsyncGenerator[Event, None]:
        """Runs code, and yields what it puts out, in that order, and End as the last event.

        Whatever the code does, it makes no exception here. A call that takes too long is
        interrupted, and if that does not help, or a limit is exceeded, the session is ended, which
        End tells. One call at a time. Who stops reading before End closes the iterator (`aclose`),
        which kills the code and ends the session. Raises SessionClosed when the session has ended
        already, or is closed during the call.
        """

    async def close(self) -> None:
        """Ends the session; no process is left of it, and its files are kept.

        Closing twice does no harm.
        """


class Sandbox(Protocol):
    """An engine: opens sessions, and keeps the files of threads between them."""

    @property
    def name(self) -> str:
        """`bubblewrap`, `landlock`, `command` or `off`."""

    def folder(self, thread: str) -> Folder:
        """Returns the thread's files, which the code sees in /mnt/data.

        They are there without a session, before the first one and after the last one. What is put
        there is seen by the next call, and what a call has left there can be read after its End.
        """

    async def open(self, thread: str) -> Session:
        """Starts a session on the thread's files. The caller owns it and closes it.

        At most one session of a thread at a time. Raises Unavailable when none can be started.
        """

    async def forget(self, thread: str) -> None:
        """Removes the thread's files. The thread has no session."""

    async def unused(self, before: float) -> list[str]:
        """Returns the threads that have files and no session that began after a unix time."""


class Register(Protocol):
    """Knows the newest session of each thread, of those on all servers."""

    async def is_newest(self, thread: str, session: str) -> bool:
        """Returns whether no server has opened another one of the thread since this."""

    async def opened(self, thread: str, session: str) -> bool:
        """Notes a session of this server's.

        Returns whether another server had not closed the one before, so that its state is lost.
        """

    async def closed(self, thread: str, session: str) -> bool:
        """Notes a session's end; returns whether it was the newest, as far as can be known."""
