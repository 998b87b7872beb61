"""The tool `code_interpreter`: runs the model's Python in the session of the run's thread."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from service.runner.tools import code
from service.runner.tools.logs import Logs
from service.runner.tools.thread_files import DATA, Files, Given, ThreadFiles
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
from service.sandbox.port import End, Error, Event, Image, SessionClosed, Text, Unavailable
from service.sandbox.sessions import Sessions
from service.sandbox.settings import SandboxSettings
from service.types.tool_calls import CODE_INTERPRETER
from storage.rows import Run
from storage.threads import Threads

log = structlog.get_logger(__name__)

NAME = "python"
"""What models call it by."""

ENDINGS = {"image/png": "png", "image/jpeg": "jpg"}

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

NOTHING = "[The code has put out nothing.]"


class CodeInterpreter(ServerTool):
    """Runs code of all threads, in sessions that it owns."""

    type = CODE_INTERPRETER

    def __init__(self, settings: SandboxSettings, threads: Threads, files: Files) -> None:
        """Starts nothing yet. `threads` knows which there are."""
        self._settings = settings
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
        sessions = Sessions(await choose(self._settings), self._settings.lifetimes)
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
                await self.sweep(time.time() - KEPT_SECONDS)
            except Exception:
                # The database may be away: there is another time.
                log.warning("files of threads not swept", exc_info=True)
            await asyncio.sleep(SWEEP_SECONDS)

    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer | None:
        """Offers a function of one parameter, whose description names the files there are."""
        sessions = await self._sessions()
        files = await self._files.of_run(run)
        placed = await self._thread_files(sessions, run).put(files)
        return Offer(_definition(self._settings.limits, files, placed))

    async def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        """Runs the code of a call."""
        text = code.parse(call.arguments)
        yield Delta({"input": text})
        sessions = await self._sessions()
        execution = _Execution(call, self._thread_files(sessions, call.run), self._settings.limits)
        try:
            async with aclosing(sessions.run(call.run.thread_id, text)) as events:
                async for event in events:
                    async for delta in execution.take(event, self._files):
                        yield delta
        except Unavailable as error:
            raise ToolUnavailable(_unavailable(str(error))) from error
        except SessionClosed as error:
            raise ToolFailed(f"The code was not run to its end: {error}.") from error
        async for piece in execution.end():
            yield piece

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


class _Execution:
    """What one call has put out so far."""

    def __init__(self, call: Call, files: ThreadFiles, limits: Limits) -> None:
        self._call = call
        self._files = files
        self._limits = limits
        self._logs = Logs()
        self._outputs = 0
        self._logs_at: int | None = None
        self._images: list[str] = []

    async def take(self, event: Event, files: Files) -> AsyncGenerator[Delta, None]:
        """Takes an event of the session; yields what the step shows of it."""
        match event:
            case Text(text):
                shown = self._logs.add(text)
            case Error():
                shown = self._logs.add(_error(event))
            case End():
                shown = self._logs.add(_end(event, self._limits))
            case Image():
                image = await self._keep(event, files)
                yield Delta(
                    {"outputs": [{"index": self._outputs, "type": "image", "image": image}]}
                )
                self._outputs += 1
                return
        if shown:
            yield self._shown(shown)

    async def end(self) -> AsyncGenerator[Delta | Result, None]:
        """Yields the end of the logs, and what the model is given."""
        if rest := self._logs.end():
            yield self._shown(rest)
        written, left = await self._files.written()
        seen = [self._logs.for_model().rstrip("\n")]
        seen += [f"[The user is shown an image: {file_id}]" for file_id in self._images]
        if written:
            seen.append(f"[Written: {', '.join(written)}]")
        if left:
            seen.append(f"[Written, and too many or too large to be given: {', '.join(left)}]")
        output = "\n".join(each for each in seen if each) or NOTHING
        yield Result(output, files=written)

    async def _keep(self, image: Image, files: Files) -> dict[str, str]:
        name = f"{self._call.id}-{len(self._images) + 1}.{ENDINGS[image.mime]}"
        run = self._call.run

        async def content() -> AsyncGenerator[bytes, None]:
            yield image.data

        file_id = await files.write(run.project_id, name, content())
        self._images.append(file_id)
        return {"file_id": file_id}

    def _shown(self, text: str) -> Delta:
        if self._logs_at is None:
            self._logs_at = self._outputs
            self._outputs += 1
        return Delta({"outputs": [{"index": self._logs_at, "type": "logs", "logs": text}]})


def _definition(
    limits: Limits, files: Sequence[Given], placed: Mapping[str, str]
) -> dict[str, Any]:
    description = DESCRIPTION.format(seconds=limits.seconds, data=DATA)
    if placed:
        lines = [f"{placed[each.id]} ({each.id})" for each in files if each.id in placed]
        description += "\nThe user has given these files: " + ", ".join(lines) + "."
    if missing := [each for each in files if each.id not in placed]:
        lines = [f"{each.filename} ({each.id}, {each.bytes} bytes)" for each in missing]
        description += f"\nThese do not fit into {DATA}: " + ", ".join(lines) + "."
    code_ = {"type": "string", "description": "The Python code, as it is, without a fence."}
    parameters = {"type": "object", "properties": {"code": code_}, "required": ["code"]}
    function = {"name": NAME, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _error(error: Error) -> str:
    return f"{error.traceback or f'{error.name}: {error.value}'}\n"


def _end(end: End, limits: Limits) -> str:
    said = ""
    if end.interrupted:
        said = f"[The code was interrupted: it took longer than {limits.seconds:g} seconds.]\n"
    if end.lost is not None:
        said += (
            f"[The Python session has ended: {end.lost}. Variables and imports are gone, files in "
            f"{DATA} are kept.]\n"
        )
    return said


def _unavailable(reason: str) -> str:
    return f"Tool '{CODE_INTERPRETER}' is not available on this server: {reason}."
