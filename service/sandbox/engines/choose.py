"""The one place where an engine is chosen, and tried before anybody relies on it."""

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from service.sandbox import environment
from service.sandbox.engines.bubblewrap import BubblewrapSandbox
from service.sandbox.engines.command import CommandSandbox
from service.sandbox.engines.landlock import LandlockSandbox
from service.sandbox.engines.off import OffSandbox
from service.sandbox.environment import Interpreter, NoInterpreter
from service.sandbox.port import Error, Sandbox, Text, Unavailable
from service.sandbox.settings import SandboxSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that may work here."""

    name: str
    make: Callable[[], Sandbox]


async def choose(settings: SandboxSettings) -> Sandbox:
    """Returns the engine that the settings ask for; for `auto`, the first one that works.

    Where none works, returns one that opens no session and says why, so that the rest of the server
    can serve. Must be called in the main thread (see service.process.child).
    """
    match settings.engine:
        case "off":
            return OffSandbox(settings.directory, settings.limits, "it is switched off")
        case "command":
            sandbox = CommandSandbox(settings)
            log.info("code interpreter is on", engine=sandbox.name)
            return sandbox
        case "auto":
            return await _first(settings)


async def _first(settings: SandboxSettings) -> Sandbox:
    def off(reason: str) -> Sandbox:
        log.warning("code interpreter is off", reason=reason)
        return OffSandbox(settings.directory, settings.limits, reason)

    if sys.platform != "linux":
        return off(f"on {sys.platform}, only ASSISTANTS_SANDBOX=command runs code")
    try:
        interpreter = await asyncio.to_thread(environment.find, settings.python)
    except NoInterpreter as error:
        return off(str(error))
    reasons = []
    for candidate in candidates(settings, interpreter):
        try:
            sandbox = candidate.make()
            await probe(sandbox, settings.directory)
        except (Unavailable, OSError) as error:
            reasons.append(f"{candidate.name}: {error}")
            log.info("sandbox engine does not work here", engine=candidate.name, reason=str(error))
            continue
        log.info("code interpreter is on", engine=sandbox.name)
        return sandbox
    return off("; ".join(reasons))


def candidates(settings: SandboxSettings, interpreter: Interpreter) -> Iterator[Candidate]:
    """Yields the engines of this machine, the safest first."""
    root, limits = settings.directory, settings.limits

    def bubblewrap(program: Path) -> Candidate:
        return Candidate(
            f"bubblewrap ({program})",
            lambda: BubblewrapSandbox(root, interpreter, limits, program=program),
        )

    if system := shutil.which("bwrap"):
        yield bubblewrap(Path(system))
    if interpreter.bubblewrap:
        yield bubblewrap(interpreter.bubblewrap)
    yield Candidate("landlock", lambda: LandlockSandbox(root, interpreter, limits))


PROBE = """
import os
def refused(attempt):
    try:
        attempt()
    except (OSError, AttributeError):
        return True
with open("/mnt/data/probe", "w") as file:
    file.write("written")
assert refused(lambda: open({canary!r})), "a file of the server can be read"
assert refused(lambda: os.listdir({root!r})), "a folder of the server can be read"
assert refused(lambda: os.kill({pid}, 0)), "the server can be signalled"
print(open("/mnt/data/probe").read())
"""


async def probe(sandbox: Sandbox, root: Path) -> None:
    """Runs a piece of code in a session, and looks whether the session is enclosed.

    Raises Unavailable when it cannot be run or is not enclosed, OSError for a folder that cannot be
    written.
    """
    thread = f"probe-{secrets.token_hex(8)}"
    try:
        with _canary(root) as canary:
            await _call(sandbox, thread, canary)
    finally:
        await sandbox.forget(thread)


async def _call(sandbox: Sandbox, thread: str, canary: Path) -> None:
    code = PROBE.format(canary=str(canary), root=str(canary.parent), pid=os.getpid())
    session = await sandbox.open(thread)
    try:
        said = ""
        async with aclosing(session.run(code)) as events:
            async for event in events:
                if isinstance(event, Error):
                    raise Unavailable(f"a first call failed: {event.name}: {event.value}")
                if isinstance(event, Text):
                    said += event.text
        if said != "written\n":
            raise Unavailable(f"a first call failed: {session.lost or said[:200]!r}")
    finally:
        await session.close()


@contextmanager
def _canary(root: Path) -> Iterator[Path]:
    """A file of the server that any user may read, were it in reach."""
    path = root.absolute() / f"canary-{secrets.token_hex(8)}"
    path.write_text("canary")
    path.chmod(0o644)
    try:
        yield path
    finally:
        path.unlink()
