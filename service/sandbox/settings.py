"""The code interpreter's settings, once: defaults, meanings and reasons."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.sandbox.limits import Lifetimes, Limits

Choice = Literal["auto", "command", "off"]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """The settings of one server's code interpreter."""

    directory: Path
    """Where the threads' files are. One server holds it."""

    engine: Choice = "auto"
    """`auto`: bubblewrap where it works, else Landlock; `command`: `command`; `off`: none."""

    command: tuple[str, ...] = ()
    """What starts the interpreter elsewhere: an argv to which `python -I -c …` is appended.

    Such as `docker run -i --rm --network=none IMAGE`. Its standard streams are the interpreter's.
    """

    python: Path | None = None
    """The Python that runs the code, of an environment with IPython. Default: the installed one.

    With `command`, its name there; default `python3`.
    """

    limits: Limits = field(default_factory=Limits)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
