"""Tools of the server's that only tests have."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from service.runner.tools.tool import Call, Delta, Offer, Result, ServerTool, ToolFailed
from storage.rows import Run
from tests.support.types.samples import SEARCHED


def definition(name: str, parameter: str) -> dict[str, Any]:
    properties = {parameter: {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


class Python(ServerTool):
    """Says what the code is, in two pieces; `fail` fails, `break` is a defect, `hang` waits."""

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
            if code == "break":
                raise RuntimeError("a secret")
            if code == "image":
                image = {"file_id": "file-1"}
                yield Delta({"outputs": [{"index": 1, "type": "image", "image": image}]})
            yield Result(f"It says: {code}")
        finally:
            self.left += 1


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
