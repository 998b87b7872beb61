"""Images of messages that are files, as models get them."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from service.files.blobs import BlobNotFound, BlobStore, BlobsUnavailable
from service.files.blobs.contents import Part, read
from storage.errors import NotFound
from storage.files import Files

log = structlog.get_logger(__name__)

MAX_BYTES = 20 * 2**20
"""Of an image, as OpenAI takes them."""

GONE: Mapping[str, Any] = {"type": "text", "text": "(an image that is not available any more)"}
"""What stands for an image that cannot be had."""

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
        """Returns turns with images as data URLs where they were files. Raises Unreachable."""
        return [
            {**turn, "content": [await self._part(project, part) for part in turn["content"]]}
            if isinstance(turn.get("content"), list)
            else {**turn}
            for turn in turns
        ]

    async def _part(self, project: str, part: Mapping[str, Any]) -> Mapping[str, Any]:
        if part["type"] != "image_file":
            return part
        image = part["image_file"]
        url = await self._url(project, image["file_id"])
        if url is None:
            return GONE
        return {"type": "image_url", "image_url": {"url": url, "detail": image["detail"]}}

    async def _url(self, project: str, file_id: str) -> str | None:
        try:
            found = await self._files.content(project, file_id)
            if found.file.bytes > MAX_BYTES:
                log.warning("image too large", file=file_id, bytes=found.file.bytes)
                return None
            parts = [Part(blob.id, blob.bytes) for blob in found.blobs]
            data = b"".join([piece async for piece in read(self._blobs, parts)])
        except (NotFound, BlobNotFound):
            return None
        except BlobsUnavailable as error:
            log.warning("image not read", file=file_id, problem=str(error))
            return None
        kind = next((kind for mark, kind in _BEGINNINGS.items() if data.startswith(mark)), None)
        if kind is None:
            return None
        encoded = await asyncio.to_thread(base64.b64encode, data)
        return f"data:{kind};base64,{encoded.decode()}"
