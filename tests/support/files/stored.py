"""Blobs with bytes in them, past the API."""

from service.files.blobs import BlobStore
from storage import ids
from storage.files import NewBlob


async def stored(blobs: BlobStore, data: bytes, prefix: str = ids.BLOB) -> NewBlob:
    """Stores bytes under a new key."""
    key = ids.new_id(prefix)
    async with blobs.create(key) as writer:
        await writer.write(data)
        await writer.accept()
    return NewBlob(key, len(data))
