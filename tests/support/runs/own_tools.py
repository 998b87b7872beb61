"""Tools of the server's that only tests have."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from service.runner.tools.tool import (
    Call,
    Delta,
    Offer,
    Result,
    ServerTool,
    ToolFailed,
    ToolUnavailable,
)
from storage.rows import Run
from tests.support.types.samples import SEARCHED

WRITTEN = {"/mnt/data/x y.csv": "file-2", "/mnt/data/z.csv": "file-3"}


def definition(name: str, parameter: str) -> dict[str, Any]:
    properties = {parameter: {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


class Python(ServerTool):
    """Says what the code is, in two pieces; `fail` fails, `break` is a defect, `hang` waits.

    `image` shows file-1, `write` writes file-2 and file-3, `away` is a sandbox that is gone. Links
    to /mnt/data/old.csv lead to file-0.
    """

    type = "code_interpreter"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.hanging = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = 0
        """How many executions have been left, in whatever way."""

    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer:
        return Offer(definition("python", "code"))

    async def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        self.calls.append(call)
        try:
            try:
                code = json.loads(call.arguments)["code"]
            except (ValueError, KeyError) as error:
                raise ToolFailed("No code was given.") from error
            yield Delta({"input": code})
            for piece in (code[:1], code[1:]):
                yield Delta({"outputs": [{"index": 0, "type": "logs", "logs": piece}]})
                if code == "hang":
                    self.hanging.set()
                    await self.go_on.wait()
            if code == "fail":
                raise ToolFailed("The code has failed.")
            if code == "away":
                raise ToolUnavailable("There is no sandbox.")
            if code == "break":
                raise RuntimeError("a secret")
            if code == "image":
                image = {"file_id": "file-1"}
                yield Delta({"outputs": [{"index": 1, "type": "image", "image": image}]})
            yield Result(f"It says: {code}", files=WRITTEN if code == "write" else {})
        finally:
            self.left += 1

    async def linked(self, run: Run, path: str) -> str | None:
        return "file-0" if path == "/mnt/data/old.csv" else None


class Search(ServerTool):
    """Finds always the same."""

    type = "file_search"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer:
        return Offer(definition("search", "query"))

    async def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        self.calls.append(call)
        yield Result("Found.", SEARCHED)
