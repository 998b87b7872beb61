"""Code interpreters on real storage, each with sessions of its own."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from service.files.blobs.folder import FolderBlobs
from service.runner.tools.code_interpreter import CodeInterpreter
from service.runner.tools.files import Files
from service.sandbox.limits import Lifetimes, Limits
from service.sandbox.settings import SandboxSettings
from storage import Storage
from storage.rows import File
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
    tool = CodeInterpreter(settings, storage.threads, files)
    tool.start()
    try:
        yield Interpreter(tool, files, root / "threads")
    finally:
        await tool.close()
        await blobs.close()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
