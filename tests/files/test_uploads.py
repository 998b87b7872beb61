"""Uploads that end while their parts are read for an md5."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from assistants.v1 import uploads_pb2

from service.api.uploads import UploadsServicer
from service.calls import Caller
from service.errors import from_exception
from service.files.blobs import BlobNotFound
from service.files.blobs.folder import FolderBlobs
from service.files.leftovers import Leftovers
from storage import Storage, ids, tables
from storage.errors import UploadEnded
from storage.rows import table
from tests.support.files.stored import stored
from tests.support.storage.rows import PROJECT, execute

CONTENT = b"the same" * 100
CALLER = Caller(PROJECT, "request")


class Interrupted(FolderBlobs):
    """A folder of blobs, ahead of whose reading something else happens."""

    before: Callable[[], Awaitable[object]]

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes of a blob."""
        await self.before()
        async for piece in super().read(key, start, end):
            yield piece


class Scene:
    """An upload with two parts, each of which is all of its bytes."""

    def __init__(self, storage: Storage, blobs: Interrupted) -> None:
        self.storage = storage
        self.blobs = blobs
        self.servicer = UploadsServicer(storage, blobs, max_bytes=2**20, max_part_bytes=2**20)

    async def create(self) -> None:
        """Creates the upload."""
        values = {
            "filename": "a",
            "purpose": "assistants",
            "bytes": len(CONTENT),
            "mime_type": "text/plain",
            "expires_after": None,
        }
        self.id = (await self.storage.uploads.create(PROJECT, values)).id
        self.parts = [await self._part() for _ in range(2)]

    async def _part(self) -> str:
        new = await stored(self.blobs, CONTENT, ids.PART)
        return (await self.storage.uploads.add_part(PROJECT, self.id, new)).id

    async def complete(self, part: int, **more: str) -> Any:
        """Completes the upload with a part."""
        request = uploads_pb2.CompleteUploadRequest(
            upload_id=self.id, part_ids=[self.parts[part]], **more
        )
        return await self.servicer.CompleteUpload(request, CALLER)

    async def cancel(self) -> None:
        """Cancels the upload."""
        request = uploads_pb2.CancelUploadRequest(upload_id=self.id)
        await self.servicer.CancelUpload(request, CALLER)

    async def complete_with_the_other(self) -> None:
        """Completes the upload, whose first part is left over."""
        await self.complete(1)

    async def expire(self) -> None:
        """Has the upload expire."""
        await execute(self.storage, sa.update(table(tables.Upload)).values(expires_at=1))
        await Leftovers(self.storage.files, self.storage.uploads, self.blobs).expire()

    async def lose(self) -> None:
        """Loses the bytes of the first part."""
        await self.blobs.delete(self.parts[0])


@pytest.fixture
async def scene(storage: Storage, tmp_path: Path) -> AsyncIterator[Scene]:
    blobs = Interrupted(tmp_path / "files")
    scene = Scene(storage, blobs)
    await scene.create()
    yield scene
    await blobs.close()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Scene.cancel, "cancelled"),
        (Scene.complete_with_the_other, "completed"),
        (Scene.expire, "expired"),
    ],
    ids=["cancelled", "completed", "expired"],
)
async def test_who_completes_an_upload_that_ends_meanwhile_is_told(
    scene: Scene, end: Callable[[Scene], Awaitable[object]], status: str
) -> None:
    scene.blobs.before = lambda: end(scene)
    with pytest.raises(UploadEnded) as error:
        await scene.complete(0, md5=hashlib.md5(CONTENT).hexdigest())
    refused = from_exception(error.value)
    assert (refused.spec.http, refused.message) == (400, f"Upload {scene.id} is {status}.")


async def test_bytes_that_are_lost_are_an_error_of_the_server(scene: Scene) -> None:
    scene.blobs.before = scene.lose
    with pytest.raises(BlobNotFound):
        await scene.complete(0, md5=hashlib.md5(CONTENT).hexdigest())
