"""Attachments: files of a message, with the tools that may use them."""

from collections.abc import Sequence
from typing import Any

from assistants.v1 import messages_pb2

from service.types import checks, tools

MAX_ATTACHMENTS = 2000
"""Of one message: as many files as a batch may have."""
MAX_TOOLS = 20


def parse(param: str, given: Sequence[messages_pb2.Attachment]) -> list[dict[str, Any]]:
    """Returns attachments as both transports show them.

    Whether there are such files, storage finds out.
    """
    checks.array(param, len(given), MAX_ATTACHMENTS)
    found = []
    for index, attachment in enumerate(given):
        name = f"{param}[{index}]"
        checks.array(f"{name}.tools", len(attachment.tools), MAX_TOOLS)
        for place, tool in enumerate(attachment.tools):
            checks.choice(f"{name}.tools[{place}].type", tool.type, tools.SERVER_KINDS)
        file_id = checks.object_id(f"{name}.file_id", attachment.file_id, "file")
        kinds = [{"type": tool.type} for tool in attachment.tools]
        found.append({"file_id": file_id, "tools": kinds})
    return found


def attachment(file_id: str, tool: str) -> dict[str, Any]:
    """Returns the attachment of a file to one tool."""
    return {"file_id": file_id, "tools": [{"type": tool}]}
