"""Attachments: files of a message, with the tools that may use them."""

from collections.abc import Sequence
from typing import Any

from assistants.v1 import messages_pb2

from service.types import checks, files, tools


def parse(param: str, given: Sequence[messages_pb2.Attachment]) -> list[dict[str, Any]]:
    """Returns attachments, of which there can be none: this server keeps no files.

    Both transports show the stored form.
    """
    for index, attachment in enumerate(given):
        name = f"{param}[{index}]"
        for place, tool in enumerate(attachment.tools):
            checks.choice(f"{name}.tools[{place}].type", tool.type, tools.SERVER_KINDS)
        checks.required_text(f"{name}.file_id", attachment.file_id, 512)
        files.unknown(attachment.file_id)
    return []


def attachment(file_id: str, tool: str) -> dict[str, Any]:
    """Returns the attachment of a file to one tool."""
    return {"file_id": file_id, "tools": [{"type": tool}]}
