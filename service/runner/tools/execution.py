"""Executes the calls of a turn that are the server's."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import structlog

from service.models.sizes import size_of
from service.models.texts import storable, storable_json
from service.models.tokens import BYTES_PER_TOKEN
from service.process import tracing
from service.runner.answer import Answer
from service.runner.tools.tool import Call, Delta, Result, ServerTool, ToolFailed, ToolUnavailable
from service.types.tool_outputs import MAX_OUTPUT
from storage.errors import Unreachable
from storage.rows import Run

log = structlog.get_logger(__name__)

FAILED = "The tool failed."
"""What a model is given of a tool that broke down."""

UNKNOWN = "There is no function '{}'. Call one of those that there are, or answer."
"""What a model is given of a function that it has made up, where it has tools of the server's."""


async def execute(answer: Answer, run: Run, room: int | None) -> None:
    """Executes the server's calls of an answer, one after another, and adds what comes of them.

    Their outputs may take `room` tokens, if that is known. Raises ToolUnavailable.
    """
    for called in answer.server_calls:
        offered = called.offered
        if offered is None:
            answer.answer_function(called, UNKNOWN.format(called.name))
            continue
        number = answer.number(called)
        call = Call(
            called.shown["id"], run, number, called.arguments, offered.given, room, answer.is_ahead
        )
        named = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": offered.tool.type}
        with tracing.span("execute_tool", attributes=named):
            async with contextlib.aclosing(_execute(offered.tool, call)) as pieces:
                async for piece in pieces:
                    details = storable_json(piece.details)
                    assert isinstance(details, dict)
                    if isinstance(piece, Delta):
                        await answer.add_to_call(called, details)
                    else:
                        output = storable(piece.output)[:MAX_OUTPUT]
                        answer.end_call(called, Result(output, details, piece.files))
                        if room is not None:
                            room = max(room - size_of(output) // BYTES_PER_TOKEN, 0)
        if _broken_off():
            # The tool has caught it; no other call begins.
            raise asyncio.CancelledError


async def _execute(tool: ServerTool, call: Call) -> AsyncGenerator[Delta | Result, None]:
    """Yields the deltas of an execution, and one result; a failure is a result, too."""
    result = Result(FAILED)
    try:
        async with contextlib.aclosing(tool.execute(call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Result):
                    result = piece
                    break
                yield piece
            else:
                raise AssertionError(f"the tool {tool.type} gave no result")
    except (Unreachable, ToolUnavailable):
        raise
    except ToolFailed as failed:
        log.info("tool failed", tool=tool.type, error=str(failed))
        result = Result(str(failed))
    except asyncio.CancelledError:
        if _broken_off():
            raise
        # The tool waited for something that was cancelled by others.
        log.exception("tool broke down", tool=tool.type)
    except Exception:
        log.exception("tool broke down", tool=tool.type)
    yield result


def _broken_off() -> bool:
    """Returns whether the turn is to end: somebody has cancelled the task that executes it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
