"""Tool outputs: what the functions gave that a run waits for."""

from collections.abc import Sequence

from assistants.v1 import runs_pb2

from service.types import checks

MAX_OUTPUT = 512 * 1024
"""Characters of one tool output."""


def parse(param: str, given: Sequence[runs_pb2.ToolOutput]) -> list[tuple[str, str]]:
    """Returns each call's id with its output, at least one."""
    if not given:
        checks.missing(param)
    return [
        (
            checks.required_text(f"{param}[{index}].tool_call_id", each.tool_call_id, 512),
            checks.text(f"{param}[{index}].output", each.output, MAX_OUTPUT),
        )
        for index, each in enumerate(given)
    ]
