"""Every blob store: what the port promises."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.files.blobs import BlobNotFound, BlobStore, BlobsUnavailable
from service.files.blobs.folder import FolderBlobs
from service.files.blobs.s3 import S3Blobs
from tests.support.files.s3 import BUCKET, S3Server

LARGE = 9 * 2**20 + 12345
"""More than a part of an upload, and than a buffer."""

_prefixes = itertools.count(1)


@pytest.fixture(params=["folder", "s3"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BlobStore]:
    store: BlobStore
    if request.param == "folder":
        store = FolderBlobs(tmp_path / "blobs")
    else:
        server: S3Server = request.getfixturevalue("s3")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        store = S3Blobs(f"s3://{BUCKET}/test{next(_prefixes)}")
    yield store
    await store.close()


async def put(blobs: BlobStore, key: str, *pieces: bytes) -> None:
    async with blobs.create(key) as writer:
        for piece in pieces:
            await writer.write(piece)
        assert writer.size == sum(map(len, pieces))
        await writer.accept()


async def get(blobs: BlobStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.read(key, start, end)])


async def keys(blobs: BlobStore) -> list[str]:
    return sorted([key async for key in blobs.keys(time.time() + 60)])


@pytest.mark.parametrize("size", [0, 1, LARGE])
async def test_what_is_written_is_read(blobs: BlobStore, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    pieces = [data[at : at + 300_000] for at in range(0, size, 300_000)]
    await put(blobs, "blob_1", *pieces)
    assert await get(blobs, "blob_1") == data
    assert await blobs.size("blob_1") == size


async def test_ranges(blobs: BlobStore) -> None:
    data = bytes(range(256)) * 4096
    await put(blobs, "blob_1", data)
    end = len(data)
    for start, stop in [(0, 1), (5, 700_000), (end - 3, end), (end - 3, end + 9), (7, None)]:
        assert await get(blobs, "blob_1", start, stop) == data[start:stop]
    for start, stop in [(0, 0), (end, None), (end + 5, None), (end, end + 5), (9, 3)]:
        assert await get(blobs, "blob_1", start, stop) == b""


async def test_pieces_are_small(blobs: BlobStore) -> None:
    await put(blobs, "blob_1", b"x" * LARGE)
    assert max([len(piece) async for piece in blobs.read("blob_1")]) <= 2**20


async def test_a_reader_may_leave_early(blobs: BlobStore) -> None:
    await put(blobs, "blob_1", b"x" * LARGE)
    reading = blobs.read("blob_1")
    assert await anext(reading)
    await reading.aclose()  # type: ignore[attr-defined]
    await blobs.delete("blob_1")


@pytest.mark.parametrize("size", [0, 100, LARGE])
async def test_nothing_remains_of_what_is_not_accepted(blobs: BlobStore, size: int) -> None:
    with pytest.raises(ConnectionResetError):
        async with blobs.create("blob_1") as writer:
            await writer.write(b"x" * size)
            raise ConnectionResetError
    async with blobs.create("blob_2") as writer:
        await writer.write(b"x" * size)
    assert await keys(blobs) == []
    assert await blobs.sweep(time.time() + 60) == 0
    with pytest.raises(BlobNotFound):
        await get(blobs, "blob_1")


async def test_nothing_remains_of_an_upload_that_is_cancelled(blobs: BlobStore) -> None:
    begun = asyncio.Event()

    async def upload() -> None:
        async with blobs.create("blob_1") as writer:
            for _ in range(1000):
                await writer.write(b"x" * 2**20)
                begun.set()
            raise AssertionError("nobody cancelled it")

    task = asyncio.create_task(upload())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(blobs) == []
    assert await blobs.sweep(time.time() + 60) == 0


async def test_a_blob_is_invisible_until_it_is_accepted(blobs: BlobStore) -> None:
    async with blobs.create("blob_1") as writer:
        await writer.write(b"x" * LARGE)
        assert await keys(blobs) == []
        with pytest.raises(BlobNotFound):
            await blobs.size("blob_1")
        await writer.accept()
        assert await keys(blobs) == ["blob_1"]


async def test_deleting(blobs: BlobStore) -> None:
    await put(blobs, "blob_1", b"one")
    await put(blobs, "blob_2", b"two")
    await blobs.delete("blob_1")
    await blobs.delete("blob_1")
    assert await keys(blobs) == ["blob_2"]
    for reading in (get(blobs, "blob_1"), get(blobs, "blob_1", 1, 2), blobs.size("blob_1")):
        with pytest.raises(BlobNotFound):
            await reading


async def test_keys_are_told_by_their_age(blobs: BlobStore) -> None:
    names = [f"blob_{number}" for number in range(20)]
    await asyncio.gather(*(put(blobs, name, b"data") for name in names))
    assert await keys(blobs) == sorted(names)
    assert [key async for key in blobs.keys(time.time() - 3600)] == []


async def test_many_at_once(blobs: BlobStore) -> None:
    contents = {f"blob_{number}": bytes([number]) * 700_000 for number in range(24)}
    await asyncio.gather(*(put(blobs, key, data) for key, data in contents.items()))
    found = await asyncio.gather(*(get(blobs, key) for key in contents))
    assert found == list(contents.values())


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a\0b", ".", "x" * 300, "ä"])
async def test_a_key_is_no_path(blobs: BlobStore, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        await put(blobs, key, b"data")
    with pytest.raises(ValueError, match="no key"):
        await get(blobs, key)


async def test_local_files_are_where_they_are_said_to_be(blobs: BlobStore) -> None:
    await put(blobs, "blob_1", b"data")
    path = blobs.path("blob_1")
    assert path is None or path.read_bytes() == b"data"


async def test_a_folder_is_swept_of_what_a_crash_left(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    await put(blobs, "blob_1", b"data")
    leftover = tmp_path / "incoming" / "blob_2"
    leftover.write_bytes(b"half")
    assert await blobs.sweep(time.time() - 3600) == 0
    assert await blobs.sweep(time.time() + 60) == 1
    assert not leftover.exists()
    assert await keys(blobs) == ["blob_1"]
    await blobs.close()


async def test_a_folder_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blobs = FolderBlobs(tmp_path / "file" / "blobs")
    with pytest.raises(BlobsUnavailable, match=r"File exists|Not a directory"):
        await put(blobs, "blob_1", b"data")
    await blobs.close()


async def test_a_store_that_is_away_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    blobs = S3Blobs(f"s3://{BUCKET}")
    with pytest.raises(BlobsUnavailable):
        await put(blobs, "blob_1", b"data")
    with pytest.raises(BlobsUnavailable):
        await get(blobs, "blob_1")
