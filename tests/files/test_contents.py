"""Files of several blobs: read, and opened, as one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.files.blobs import BlobNotFound, BlobStore
from service.files.blobs.contents import Part, open_store, opened, read
from service.files.blobs.folder import FolderBlobs
from service.files.blobs.s3 import S3Blobs

DATA = bytes(range(256)) * 3


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = open_store(None, tmp_path / "blobs")
    yield store
    await store.close()


async def put(blobs: BlobStore, *sizes: int) -> list[Part]:
    """Divides DATA among blobs."""
    parts, at = [], 0
    for number, size in enumerate(sizes):
        async with blobs.create(f"blob_{number}") as writer:
            await writer.write(DATA[at : at + size])
            await writer.accept()
        parts.append(Part(f"blob_{number}", size))
        at += size
    return parts


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("sizes", [(768,), (300, 468), (1, 0, 700, 67)])
async def test_ranges_go_over_blobs(blobs: BlobStore, sizes: tuple[int, ...]) -> None:
    parts = await put(blobs, *sizes)
    assert await joined(read(blobs, parts)) == DATA
    for start, end in [(0, 1), (299, 301), (300, 768), (5, 9999), (700, None), (768, None), (9, 3)]:
        assert await joined(read(blobs, parts, start, end)) == DATA[start:end]


@pytest.mark.parametrize("sizes", [(768,), (300, 468)])
async def test_a_file_can_be_opened(blobs: BlobStore, sizes: tuple[int, ...]) -> None:
    async with opened(blobs, await put(blobs, *sizes)) as file:
        assert file.read() == DATA
        assert Path(f"/proc/self/fd/{file.fileno()}").exists()


async def test_what_is_not_there(blobs: BlobStore) -> None:
    for parts in ([Part("blob_9", 5)], [Part("blob_9", 5), Part("blob_8", 5)]):
        with pytest.raises(BlobNotFound):
            async with opened(blobs, parts):
                pass


def test_which_store(tmp_path: Path) -> None:
    assert isinstance(open_store(None, tmp_path), FolderBlobs)
    assert isinstance(open_store("s3://bucket/prefix", tmp_path), S3Blobs)
    with pytest.raises(ValueError, match="s3://"):
        open_store("https://bucket", tmp_path)
