"""Code interpreters on real storage, each with sessions of its own."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from service.files.blobs.folder import FolderBlobs
from service.runner.tools.code_interpreter import CodeInterpreter
from service.runner.tools.files import Files
from service.runner.tools.session_register import SessionRegister
from service.sandbox.limits import Lifetimes, Limits
from service.sandbox.settings import SandboxSettings
from storage import Storage, ids
from storage.pages import PageRequest
from storage.rows import File, Run
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.stream_checks import check_stored, check_stream
from tests.support.script import Calls, Step
from tests.support.storage.rows import PROJECT

PYTHON = {"type": "code_interpreter"}


class Interpreter:
    """A code interpreter, and the files that it works on."""

    def __init__(self, tool: CodeInterpreter, files: Files, root: Path) -> None:
        """Has its threads' files in `root`."""
        self.tool = tool
        self.files = files
        self.root = root

    async def given(self, name: str, data: bytes) -> File:
        """Makes a file, as a caller would."""
        return await self.files.write(PROJECT, name, _once(data))

    async def content(self, file_id: str) -> bytes:
        """Returns a file's bytes."""
        file = await self.files.get(PROJECT, file_id)
        assert file is not None
        return b"".join([piece async for piece in self.files.read(file)])


@contextlib.asynccontextmanager
async def interpreting(
    storage: Storage, root: Path, lifetimes: Lifetimes | None = None, **limits: Any
) -> AsyncIterator[Interpreter]:
    """Gives an interpreter on a folder, with limits of the test's choice."""
    blobs = FolderBlobs(root / "blobs")
    files = Files(storage, blobs)
    settings = SandboxSettings(
        root / "threads", limits=Limits(**limits), lifetimes=lifetimes or Lifetimes()
    )
    register = SessionRegister(storage.sessions, ids.new_id("server"))
    tool = CodeInterpreter(settings, storage.threads, files, register)
    tool.start()
    try:
        yield Interpreter(tool, files, root / "threads")
    finally:
        await tool.close()
        await blobs.close()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def code(text: str) -> Calls:
    return Calls(("python", {"code": text}))


async def ran(
    engines: Engines, interpreter: Interpreter, models: ModelServer, *steps: Step, **changes: Any
) -> Following:
    """Returns a run of these steps that has ended, with its stream."""
    engine = engines.start(interpreter.tool)
    model = models.script(*steps)
    following = await engines.run(engine, model, **{"tools": [PYTHON], **changes})
    await following.ended()
    check_stream(following.events, interrupted=False)
    await check_stored(engines.storage, following.run, [following.events])
    return following


async def calls(engines: Engines, run: Run) -> list[dict[str, Any]]:
    """Returns what the steps of a run show of its code."""
    steps = [step for step in await engines.steps(run) if step.type == "tool_calls"]
    return [
        call["code_interpreter"]
        for step in steps
        for call in step.step_details["tool_calls"]
        if call["type"] == "code_interpreter"
    ]


def logs(text: str) -> list[dict[str, str]]:
    return [{"type": "logs", "logs": text}]


def outputs(models: ModelServer, run: Run) -> list[str]:
    """Returns what the model was given of its calls, by the last request."""
    request = models.requests(run.model)[-1]
    return [each["content"] for each in request["messages"] if each["role"] == "tool"]


async def last_message(storage: Storage, run: Run) -> Any:
    page = PageRequest(limit=1)
    return (await storage.messages.list(PROJECT, run.thread_id, page)).data[0]
