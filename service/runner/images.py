"""Images of messages that are files, as models get them."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from service.files.blobs import BlobNotFound, BlobStore, BlobsUnavailable
from service.files.blobs.contents import Part, read
from storage.errors import NotFound
from storage.files import Files

log = structlog.get_logger(__name__)

MAX_BYTES = 20 * 2**20
"""Of an image, as OpenAI takes them."""

MAX_TOTAL = 50 * 2**20
"""Of all images of a request, as they are sent: OpenAI takes no more.

A longer request may be refused, and with it every later run of the thread.
"""

GONE: Mapping[str, Any] = {"type": "text", "text": "(an image that is not available any more)"}
"""What stands for an image that cannot be had."""

LEFT_OUT: Mapping[str, Any] = {
    "type": "text",
    "text": "(an image that was left out because of its size)",
}
"""What stands for an image that is too large, by itself or with the newer ones."""

_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


class Images:
    """Reads images out of files."""

    def __init__(self, files: Files, blobs: BlobStore) -> None:
        """Reads `files`, whose bytes are in `blobs`."""
        self._files = files
        self._blobs = blobs

    async def shown(self, project: str, turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns turns with images as data URLs where they were files. Raises Unreachable.

        The newest come first, up to MAX_TOTAL: from one that does not fit on, all are left out.
        """
        budget = _Budget(MAX_TOTAL)
        shown = []
        for turn in reversed(turns):
            new = {**turn}
            if isinstance(turn.get("content"), list):
                parts = [await self._part(project, part, budget) for part in turn["content"][::-1]]
                new["content"] = parts[::-1]
            shown.append(new)
        return shown[::-1]

    async def _part(
        self, project: str, part: Mapping[str, Any], budget: "_Budget"
    ) -> Mapping[str, Any]:
        match part:
            case {"type": "image_file", "image_file": {"file_id": str(file_id), "detail": detail}}:
                if budget.left < 0:
                    return LEFT_OUT
                if file_id not in budget.files:
                    budget.files[file_id] = await self._read(project, file_id)
                found = budget.files[file_id]
                if not isinstance(found, str):
                    return found
                part = {"type": "image_url", "image_url": {"url": found, "detail": detail}}
            case {"type": "image_url", "image_url": {"url": str(found)}} if _is_data(found):
                pass
            case _:
                return part
        # An image that is there twice is sent twice.
        budget.left -= len(found)
        return part if budget.left >= 0 else LEFT_OUT

    async def _read(self, project: str, file_id: str) -> str | Mapping[str, Any]:
        """Returns an image as a data URL, or the part that stands for it."""
        try:
            found = await self._files.content(project, file_id)
            if found.file.bytes > MAX_BYTES:
                log.warning("image too large", file=file_id, bytes=found.file.bytes)
                return LEFT_OUT
            parts = [Part(blob.id, blob.bytes) for blob in found.blobs]
            data = b"".join([piece async for piece in read(self._blobs, parts)])
        except (NotFound, BlobNotFound):
            return GONE
        except BlobsUnavailable as error:
            log.warning("image not read", file=file_id, problem=str(error))
            return GONE
        kind = next((kind for mark, kind in _BEGINNINGS.items() if data.startswith(mark)), None)
        if kind is None:
            return GONE
        return await asyncio.to_thread(_data_url, kind, data)


@dataclass(slots=True)
class _Budget:
    """How much of images a request may still have."""

    left: int
    """Bytes; less than 0 once an image did not fit."""
    files: dict[str, str | Mapping[str, Any]] = field(default_factory=dict)
    """What was read of each file: a data URL, or the part that stands for it."""


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
