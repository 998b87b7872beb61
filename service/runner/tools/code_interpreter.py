"""The tool `code_interpreter`: runs the model's Python in the session of the run's thread."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from service.runner.tools import code
from service.runner.tools.files import Files
from service.runner.tools.outputs import Outputs
from service.runner.tools.thread_files import DATA, ThreadFiles
from service.runner.tools.tool import (
    Call,
    Delta,
    Offer,
    Result,
    ServerTool,
    ToolFailed,
    ToolUnavailable,
)
from service.sandbox.engines.choose import choose
from service.sandbox.engines.off import OffSandbox
from service.sandbox.limits import Limits
from service.sandbox.port import Register, SessionClosed, Unavailable
from service.sandbox.sessions import Sessions
from service.sandbox.settings import SandboxSettings
from service.types.tool_calls import CODE_INTERPRETER
from storage import wall_clock
from storage.errors import Unreachable
from storage.rows import File, Run
from storage.threads import Threads

log = structlog.get_logger(__name__)

NAME = "python"
"""What models call it by."""

DESCRIPTION = """\
Runs Python in a session of this conversation, and returns what the code prints, the value of its \
last expression, and errors. Variables are kept from call to call. A call may take {seconds:g} \
seconds. There is no network. Files are in {data}, which can be written and is kept. Figures of \
matplotlib and displayed images are shown to the user. To give the user another file, write it to \
{data} and link to it in your answer, as in [report.csv](sandbox:{data}/report.csv).\
"""

KEPT_SECONDS = 24 * 3600.0
"""How long files are kept of a thread that is gone, where nothing else has removed them.

Another server may have deleted it, or this one was killed in between.
"""

SWEEP_SECONDS = 3600.0
"""Seconds between two looks for such files."""


class CodeInterpreter(ServerTool):
    """Runs code of all threads, in sessions that it owns."""

    type = CODE_INTERPRETER

    def __init__(
        self, settings: SandboxSettings, threads: Threads, files: Files, register: Register
    ) -> None:
        """Starts nothing yet. `threads` knows which there are, `register` their newest sessions."""
        self._settings = settings
        self._register = register
        self._threads = threads
        self._files = files
        self._starting: asyncio.Task[Sessions] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to choose an engine, which the log then has. For the main thread."""
        self._starting = asyncio.create_task(self._start(), name="choice of a sandbox")
        self._sweeping = asyncio.create_task(self._sweep_always(), name="files of threads")

    async def close(self) -> None:
        """Ends all sessions; what threads have written is kept."""
        if self._starting is None or self._sweeping is None:
            return
        self._sweeping.cancel()
        if not self._starting.done():
            self._starting.cancel()
        await asyncio.wait([self._starting, self._sweeping])
        if not self._starting.cancelled() and self._starting.exception() is None:
            await self._starting.result().close()

    async def _start(self) -> Sessions:
        engine = await choose(self._settings)
        sessions = Sessions(engine, self._settings.lifetimes, self._register)
        sessions.start()
        return sessions

    async def _sessions(self) -> Sessions:
        """Returns the sessions. Raises ToolUnavailable where no engine works here."""
        assert self._starting is not None
        try:
            sessions = await asyncio.shield(self._starting)
        except (Unavailable, OSError) as error:
            raise ToolUnavailable(_unavailable(str(error))) from error
        if isinstance(sessions.sandbox, OffSandbox):
            raise ToolUnavailable(_unavailable(sessions.sandbox.reason))
        return sessions

    async def sweep(self, before: float) -> None:
        """Removes the files of threads that are gone, and were not used since a unix time."""
        assert self._starting is not None
        sessions = await asyncio.shield(self._starting)
        unused = await sessions.sandbox.unused(before)
        for thread in set(unused) - await self._threads.existing(unused):
            await sessions.forget(thread)

    async def _sweep_always(self) -> None:
        while True:
            try:
                await self.sweep(wall_clock.now() - KEPT_SECONDS)
            except Unreachable as error:
                # There is another time.
                log.warning("files of threads not swept", reason=str(error))
            except Exception:
                log.warning("files of threads not swept", exc_info=True)
            await asyncio.sleep(SWEEP_SECONDS)

    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer | None:
        """Offers a function of one parameter, whose description names the files there are."""
        sessions = await self._sessions()
        files = await self._files.of_run(run, self.type)
        placed = await self._thread_files(sessions, run).put(files)
        return Offer(_definition(self._settings.limits, files, placed))

    async def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        """Runs the code of a call."""
        text = code.parse(call.arguments)
        yield Delta({"input": text})
        sessions = await self._sessions()
        outputs = Outputs(call, self._files, self._settings.limits)
        try:
            async with aclosing(sessions.run(call.run.thread_id, text)) as events:
                async for event in events:
                    if (shown := await outputs.take(event)) is not None:
                        yield shown
        except Unavailable as error:
            raise ToolUnavailable(_unavailable(str(error))) from error
        except SessionClosed as error:
            raise ToolFailed(f"The code was not run to its end: {error}.") from error
        if (rest := outputs.rest()) is not None:
            yield rest
        written, left = await self._thread_files(sessions, call.run).written()
        yield Result(outputs.for_model(written, left), files=written)

    async def linked(self, run: Run, path: str) -> str | None:
        """Returns the id of a file in /mnt/data, whoever has put it there."""
        sessions = await self._sessions()
        return await self._thread_files(sessions, run).linked(path)

    async def forget(self, thread_id: str) -> None:
        """Ends the thread's session, and removes its files."""
        assert self._starting is not None
        await (await asyncio.shield(self._starting)).forget(thread_id)

    def _thread_files(self, sessions: Sessions, run: Run) -> ThreadFiles:
        return ThreadFiles(sessions.folder(run.thread_id), self._files, run.project_id)


def _definition(limits: Limits, files: Sequence[File], placed: Mapping[str, str]) -> dict[str, Any]:
    description = DESCRIPTION.format(seconds=limits.seconds, data=DATA)
    if placed:
        lines = [f"{placed[each.id]} ({each.id})" for each in files if each.id in placed]
        description += "\nThe user has given these files: " + ", ".join(lines) + "."
    if missing := [each for each in files if each.id not in placed]:
        lines = [f"{each.filename} ({each.id}, {each.bytes} bytes)" for each in missing]
        description += "\nThese could not be put there: " + ", ".join(lines) + "."
    code_ = {"type": "string", "description": "The Python code, as it is, without a fence."}
    parameters = {"type": "object", "properties": {"code": code_}, "required": ["code"]}
    function = {"name": NAME, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _unavailable(reason: str) -> str:
    return f"Tool '{CODE_INTERPRETER}' is not available on this server: {reason}."
