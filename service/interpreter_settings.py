"""The settings of the code interpreter, as variables have them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from service.errors import SettingsError
from service.sandbox.limits import MIB, Lifetimes, Limits
from service.sandbox.settings import Choice, SandboxSettings
from service.setting_types import Command


class InterpreterSettings(BaseSettings):
    """A part of the settings of one server (service/settings.py)."""

    sandbox: Choice = "auto"
    """Where the code interpreter runs code: `auto`, `command`, or `off`.

    `auto`: enclosed by bubblewrap where that works, else by Landlock and seccomp. See
    docs/code-interpreter.md.
    """

    sandbox_command: Command = ()
    """With `command`: what starts the interpreter elsewhere, such as `docker run -i …`.

    Split as a shell does. `python3 -I -c …` is appended, whose standard streams are used.
    """

    interpreter_python: Path | None = None
    """The Python that runs the code, of an environment with IPython.

    Default: what `make setup` or `assistants interpreter install` has installed; with `command`,
    `python3` there.
    """

    sandbox_seconds: float = Field(default=60.0, ge=1)
    """How long a call may take; then it is interrupted, and two seconds later killed."""

    sandbox_memory_mib: int = Field(default=1024, ge=128)
    """MiB of memory of a session, all its processes together."""

    sandbox_disk_mib: int = Field(default=512, ge=1)
    """MiB of a thread's files together. They are kept as long as the thread."""

    sandbox_files: int = Field(default=1000, ge=1)
    """Files and folders of a thread."""

    sandbox_processes: int = Field(default=64, ge=8)
    """Processes and threads of a session together."""

    sandbox_output_mib: int = Field(default=32, ge=1)
    """MiB that a call may put out, images included; beyond them its session is ended."""

    sandbox_sessions: int = Field(default=16, ge=1)
    """Sessions that are open at once. For one more the idlest is closed, and its files are kept."""

    sandbox_idle_seconds: float = Field(default=20 * 60.0, ge=1)
    """How long a session may run nothing until it is closed."""

    sandbox_age_seconds: float = Field(default=60 * 60.0, ge=1)
    """How old a session may be; then it is closed as soon as it runs nothing."""

    def check_interpreter(self) -> None:
        """Raises SettingsError where one of these lacks another."""
        if self.sandbox == "command" and not self.sandbox_command:
            raise SettingsError("ASSISTANTS_SANDBOX=command needs ASSISTANTS_SANDBOX_COMMAND")

    def interpreter_in(self, directory: Path) -> SandboxSettings:
        """Returns them together, with the directory of the threads' files."""
        return SandboxSettings(
            directory=directory,
            engine=self.sandbox,
            command=self.sandbox_command,
            python=self.interpreter_python,
            limits=Limits(
                seconds=self.sandbox_seconds,
                memory=self.sandbox_memory_mib * MIB,
                disk=self.sandbox_disk_mib * MIB,
                files=self.sandbox_files,
                processes=self.sandbox_processes,
                output=self.sandbox_output_mib * MIB,
            ),
            lifetimes=Lifetimes(
                sessions=self.sandbox_sessions,
                idle_seconds=self.sandbox_idle_seconds,
                age_seconds=self.sandbox_age_seconds,
            ),
        )
