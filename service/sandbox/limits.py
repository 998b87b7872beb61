"""What a session may use, and how long sessions live."""

from dataclasses import dataclass

KIB, MIB = 1024, 1024**2


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one session."""

    seconds: float = 60.0
    """How long a call may take; then it is interrupted as if by Ctrl-C."""

    grace: float = 2.0
    """Seconds after the interrupt until the session is killed."""

    start_seconds: float = 30.0
    """How long a session may take to start."""

    memory: int = 1024 * MIB
    """Bytes of memory of all the session's processes together."""

    disk: int = 512 * MIB
    """Bytes of the thread's files together, and of each one."""

    files: int = 1000
    """How many files and folders a thread may have."""

    processes: int = 64
    """Processes and threads of a session together."""

    output: int = 32 * MIB
    """Bytes that a call may put out, images included; beyond them the session is ended."""

    text: int = MIB
    """Bytes of a call's text that are passed on: its beginning and its end, half each."""

    images: int = 20
    """Images of a call that are passed on."""

    frame: int = 16 * MIB
    """Bytes of the longest message that the child may send: an image in base64."""

    code: int = MIB
    """Bytes of code that a call may have."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How many sessions there are, and for how long."""

    sessions: int = 16
    """Sessions that are open at once. For one more, the idlest is closed."""

    idle_seconds: float = 20 * 60.0
    """A session that has run nothing for so long is closed."""

    age_seconds: float = 60 * 60.0
    """A session that has been open for so long is closed as soon as it runs nothing."""
