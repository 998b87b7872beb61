"""The content of a file: its blobs, one after the other, as one stretch of bytes."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from service.files.blobs import BlobNotFound, BlobStore


@dataclass(frozen=True, slots=True)
class Part:
    """A blob of a file, and how many bytes it has."""

    key: str
    size: int


def open_store(url: str | None, folder: Path) -> BlobStore:
    """Returns the store of a URL, `s3://…`, or the one in a folder. ValueError for other URLs."""
    if url is None:
        from service.files.blobs.folder import FolderBlobs

        return FolderBlobs(folder)
    if not url.startswith("s3://"):
        raise ValueError("expected s3://BUCKET or s3://BUCKET/PREFIX")
    from service.files.blobs.s3 import S3Blobs

    return S3Blobs(url)


async def read(
    store: BlobStore, parts: Sequence[Part], start: int = 0, end: int | None = None
) -> AsyncIterator[bytes]:
    """Yields the bytes of a range of a file; see BlobStore.read."""
    at = 0
    for part in parts:
        first, last = max(start - at, 0), part.size if end is None else min(end - at, part.size)
        at += part.size
        if first < last:
            async for piece in store.read(part.key, first, last):
                yield piece


@contextlib.asynccontextmanager
async def opened(store: BlobStore, parts: Sequence[Part]) -> AsyncIterator[BinaryIO]:
    """Gives a file of the operating system with the content of one of ours, to be read only.

    A file of one blob in a local folder is opened where it is; others are copied to the disk, and
    gone when the context is left. Raises BlobNotFound, BlobsUnavailable.
    """
    path = store.path(parts[0].key) if len(parts) == 1 else None
    if path is not None:
        try:
            file: IO[Any] = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise BlobNotFound(parts[0].key) from None
        with file:
            yield cast(BinaryIO, file)
        return
    with tempfile.TemporaryFile() as copy:
        async for piece in read(store, parts):
            await asyncio.to_thread(copy.write, piece)
        await asyncio.to_thread(copy.flush)
        copy.seek(0)
        yield cast(BinaryIO, copy)
