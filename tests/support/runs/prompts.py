"""Rows that prompts are built from, and turns as a model gets them."""

from collections.abc import Awaitable, Callable
from typing import Any

from service.models.tokens import TokenCounter
from service.runner import prompt
from service.runner.history import History
from service.runner.tools.registry import Registry, Toolbox
from storage.conversation import Context
from storage.tables import Message, Run, RunStep
from tests.support.storage.rows import text_part

NO_TOOLS = Toolbox()

Build = Callable[[Run, Context], Awaitable[dict[str, Any]]]
Messages = Callable[[Run, Context], Awaitable[list[dict[str, Any]]]]


async def build_whole(run: Run, context: Context, tokens: TokenCounter) -> dict[str, Any]:
    """Builds a prompt of a thread that was read whole."""

    async def earlier(before: Message, limit: int) -> list[Message]:
        raise AssertionError("there is nothing before")

    history, toolbox = History(context, earlier, left=0), await Registry().toolbox(run)
    return await prompt.build(run, history, toolbox, tokens, 2**20)


def run(**changes: Any) -> Run:
    values: dict[str, Any] = {
        "model": "m",
        "instructions": "Be brief.",
        "tools": [],
        "temperature": 0.5,
        "top_p": 1.0,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": "auto",
    }
    return Run(**(values | changes))


def message(role: str, *content: str | dict[str, Any], id: str = "msg_x") -> Message:
    parts = [text_part(part) if isinstance(part, str) else part for part in content]
    return Message(id=id, project_id="p", status="completed", role=role, content=parts)


def spoke(message_id: str, **columns: Any) -> RunStep:
    details = {"type": "message_creation", "message_creation": {"message_id": message_id}}
    return RunStep(type="message_creation", step_details=details, **columns)


def called(*calls: dict[str, Any], **columns: Any) -> RunStep:
    details = {"type": "tool_calls", "tool_calls": list(calls)}
    return RunStep(type="tool_calls", step_details=details, **columns)


def context(
    *messages: Message, steps: tuple[RunStep, ...] = (), written: tuple[Message, ...] = ()
) -> Context:
    return Context(list(messages), list(steps), {each.id: each for each in written})


def turn(call_id: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


def output(call_id: str, content: str) -> dict[str, Any]:
    own = {"tool_call_id": call_id, "name": "get_weather"}
    return {"role": "tool", **own, "content": content}
