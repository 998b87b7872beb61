"""What expires goes with its bytes, and a sweep deletes what nothing names, and nothing else."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from service.files.blobs import BlobStore
from service.files.blobs.folder import FolderBlobs
from service.files.blobs.s3 import S3Blobs
from service.files.leftovers import OLD, Leftovers
from storage import Storage, ids, tables
from storage.rows import table
from tests.support.files.s3 import BUCKET, S3Server
from tests.support.files.stored import stored
from tests.support.storage.rows import PROJECT, execute

VALUES: dict[str, Any] = {
    "filename": "a",
    "purpose": "assistants",
    "expires_after": {"anchor": "created_at", "seconds": 3600},
}
CONTENT = b"the same" * 100


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "files"


@pytest.fixture
async def blobs(folder: Path) -> AsyncIterator[BlobStore]:
    store = FolderBlobs(folder)
    yield store
    await store.close()


@pytest.fixture
def leftovers(storage: Storage, blobs: BlobStore) -> Leftovers:
    return Leftovers(storage.files, storage.uploads, blobs)


async def keys(blobs: BlobStore) -> set[str]:
    return {key async for key in blobs.keys(time.time() + 60)}


def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_what_expires_goes_with_its_bytes(
    storage: Storage, blobs: BlobStore, folder: Path, leftovers: Leftovers
) -> None:
    file = await storage.files.create(PROJECT, VALUES, await stored(blobs, CONTENT))
    values = VALUES | {"bytes": len(CONTENT), "mime_type": "text/plain"}
    upload = await storage.uploads.create(PROJECT, values)
    await storage.uploads.add_part(PROJECT, upload.id, await stored(blobs, CONTENT, ids.PART))
    await leftovers.expire()
    assert len(on_disk(folder)) == 2
    for model in (tables.File, tables.Upload):
        await execute(storage, sa.update(table(model)).values(expires_at=1))
    await leftovers.expire()
    assert on_disk(folder) == []
    assert await storage.files.expired() == []
    assert await storage.uploads.overdue() == []
    assert file.expires_at is not None


async def test_a_sweep_deletes_what_nothing_names(
    storage: Storage, blobs: BlobStore, folder: Path, leftovers: Leftovers
) -> None:
    kept = [await stored(blobs, CONTENT), await stored(blobs, CONTENT, ids.PART)]
    await storage.files.create(PROJECT, VALUES, kept[0])
    values = VALUES | {"bytes": 1, "mime_type": "text/plain"}
    upload = await storage.uploads.create(PROJECT, values)
    await storage.uploads.add_part(PROJECT, upload.id, kept[1])
    lost = [(await stored(blobs, CONTENT)).key for _ in range(3)]
    # What a crash leaves of an upload.
    (folder / "incoming" / "blob_half").write_bytes(b"half")
    assert await leftovers.sweep() == 0
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1, time.time() - 2 * OLD))
    assert await leftovers.sweep() == len(lost) + 1
    assert on_disk(folder) == sorted(blob.key for blob in kept)
    assert await leftovers.sweep() == 0


async def test_a_sweep_beside_uploads_of_the_same_content(
    storage: Storage, blobs: BlobStore, leftovers: Leftovers
) -> None:
    """However young is what it deletes, and however old: each upload has a key of its own."""
    lost = {(await stored(blobs, CONTENT)).key for _ in range(20)}

    async def upload() -> str:
        new = await stored(blobs, CONTENT)
        file = await storage.files.create(PROJECT, VALUES, new)
        return file.id

    done = asyncio.Event()

    async def sweep() -> None:
        while not done.is_set():
            # Only what was there before: as of an hour ago, on a clock that has gone on.
            await leftovers._delete_unknown(sorted(lost))
            await asyncio.sleep(0)

    sweeping = asyncio.create_task(sweep())
    files = await asyncio.gather(*(upload() for _ in range(50)))
    done.set()
    await sweeping
    for file_id in files:
        content = await storage.files.content(PROJECT, file_id)
        assert await blobs.size(content.blobs[0].id) == len(CONTENT)
    assert not lost & await keys(blobs)


async def test_a_sweep_of_s3(
    storage: Storage, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    blobs = S3Blobs(f"s3://{BUCKET}/{ids.new_id('sweep')}")
    kept = await stored(blobs, CONTENT)
    await stored(blobs, CONTENT)
    await storage.files.create(PROJECT, VALUES, kept)
    leftovers = Leftovers(storage.files, storage.uploads, blobs)
    assert await leftovers.sweep() == 0
    assert await leftovers.sweep(old=-60) == 1
    assert await keys(blobs) == {kept.key}
    await blobs.close()
