"""Files and uploads: what is stored, what expires, and who wins where two come at once."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from storage import Storage, ids, tables
from storage.errors import InvalidCursor, NoSuchFile, NotFound, UploadEnded, WrongSize
from storage.files import NewBlob
from storage.pages import PageRequest
from storage.rows import File, table
from storage.uploads import Part
from tests.support.storage.rows import OTHER, PROJECT, execute

VALUES: dict[str, Any] = {"filename": "a", "purpose": "assistants", "expires_after": None}
EXPIRING = VALUES | {"expires_after": {"anchor": "created_at", "seconds": 3600}}


async def make(storage: Storage, **changes: Any) -> File:
    blob = NewBlob(ids.new_id(ids.BLOB), 7)
    return await storage.files.create(PROJECT, VALUES | changes, blob)


async def begin(storage: Storage, size: int) -> str:
    values = VALUES | {"bytes": size, "mime_type": "text/plain"}
    return (await storage.uploads.create(PROJECT, values)).id


async def add(storage: Storage, upload: str, size: int) -> Part:
    return await storage.uploads.add_part(PROJECT, upload, NewBlob(ids.new_id(ids.PART), size))


async def let_expire(storage: Storage, model: Any, id: str) -> None:
    rows = table(model)
    await execute(storage, sa.update(rows).where(rows.c.id == id).values(expires_at=1))


async def test_a_file(storage: Storage) -> None:
    file = await make(storage, filename="../ü.txt")
    assert file.id == f"file-{file.position}"
    assert (file.filename, file.bytes, file.expires_at) == ("../ü.txt", 7, None)
    content = await storage.files.content(PROJECT, file.id)
    assert (content.file, [blob.bytes for blob in content.blobs]) == (file, [7])
    [key] = await storage.files.delete(PROJECT, file.id)
    assert key == content.blobs[0].id
    assert await storage.files.unknown_blobs([key]) == [key]
    for call in (storage.files.get, storage.files.content, storage.files.delete):
        with pytest.raises(NoSuchFile):
            await call(PROJECT, file.id)


async def test_lists(storage: Storage) -> None:
    files = [await make(storage, purpose=purpose) for purpose in ("vision", "batch", "vision")]
    newest_first = [file.id for file in files][::-1]

    async def listed(purpose: str | None = None, **page: Any) -> list[str]:
        found = await storage.files.list(PROJECT, PageRequest(**page), purpose)
        return [file.id for file in found.data]

    assert await listed() == newest_first
    assert await listed(order="asc", limit=2) == newest_first[:0:-1]
    assert await listed("vision") == [newest_first[0], newest_first[2]]
    assert await listed("vision", after=newest_first[0]) == [newest_first[2]]
    assert await listed("evals") == []
    assert (await storage.files.list(OTHER, PageRequest())).data == []
    with pytest.raises(InvalidCursor):
        await listed(after="file_x")


async def test_a_file_that_has_expired_is_as_deleted(storage: Storage) -> None:
    file = await make(storage, **EXPIRING)
    assert file.expires_at == file.created_at + 3600
    assert await storage.files.expired() == []
    await let_expire(storage, tables.File, file.id)
    with pytest.raises(NoSuchFile):
        await storage.files.get(PROJECT, file.id)
    with pytest.raises(NoSuchFile):
        await storage.files.delete(PROJECT, file.id)
    assert (await storage.files.list(PROJECT, PageRequest())).data == []
    assert await storage.files.expired() == [(PROJECT, file.id)]
    [_] = await storage.files.expire(PROJECT, file.id)
    assert await storage.files.expired() == []
    assert await storage.files.expire(PROJECT, file.id) == []


async def test_an_upload(storage: Storage) -> None:
    upload = await begin(storage, 5)
    first, second, other = [await add(storage, upload, size) for size in (2, 3, 9)]
    with pytest.raises(WrongSize) as error:
        await storage.uploads.complete(PROJECT, upload, [first.id])
    assert (error.value.expected, error.value.got) == (5, 2)
    with pytest.raises(NotFound, match="no part part_x"):
        await storage.uploads.parts(PROJECT, upload, ["part_x"])
    ended = await storage.uploads.complete(PROJECT, upload, [second.id, first.id])
    assert ended.leftover == [other.id]
    assert ended.shown.upload.status == "completed"
    file = ended.shown.file
    assert file is not None and ended.shown.upload.file_id == file.id
    assert (file.bytes, file.created_at) == (5, ended.shown.upload.created_at)
    content = await storage.files.content(PROJECT, file.id)
    assert [blob.id for blob in content.blobs] == [second.id, first.id]
    for call in (
        storage.uploads.cancel(PROJECT, upload),
        storage.uploads.complete(PROJECT, upload, []),
        add(storage, upload, 1),
        storage.uploads.check_pending(PROJECT, upload),
    ):
        with pytest.raises(UploadEnded, match="completed"):
            await call
    assert {*await storage.files.delete(PROJECT, file.id)} == {first.id, second.id}


async def test_an_upload_that_is_cancelled_leaves_its_blobs(storage: Storage) -> None:
    upload = await begin(storage, 5)
    part = await add(storage, upload, 5)
    ended = await storage.uploads.cancel(PROJECT, upload)
    assert (ended.shown.upload.status, ended.leftover) == ("cancelled", [part.id])
    assert await storage.files.unknown_blobs([part.id]) == [part.id]
    assert await storage.uploads.expire(PROJECT, upload) == []


async def test_an_upload_expires(storage: Storage) -> None:
    upload = await begin(storage, 5)
    part = await add(storage, upload, 5)
    assert await storage.uploads.overdue() == []
    await let_expire(storage, tables.Upload, upload)
    # At once, before anybody ends it.
    with pytest.raises(UploadEnded, match="expired"):
        await storage.uploads.complete(PROJECT, upload, [part.id])
    assert await storage.uploads.overdue() == [(PROJECT, upload)]
    assert await storage.uploads.expire(PROJECT, upload) == [part.id]
    assert await storage.uploads.overdue() == []
    with pytest.raises(UploadEnded, match="expired"):
        await storage.uploads.cancel(PROJECT, upload)


async def test_one_end_of_an_upload_wins(storage: Storage) -> None:
    for _ in range(10):
        upload = await begin(storage, 1)
        part = await add(storage, upload, 1)
        found = await asyncio.gather(
            storage.uploads.complete(PROJECT, upload, [part.id]),
            storage.uploads.cancel(PROJECT, upload),
            storage.uploads.complete(PROJECT, upload, [part.id]),
            add(storage, upload, 1),
            return_exceptions=True,
        )
        ended = [each for each in found[:3] if not isinstance(each, BaseException)]
        assert len(ended) == 1, found
        assert all(isinstance(each, UploadEnded) for each in found[:3] if each not in ended)


async def test_names_that_no_id_has(storage: Storage) -> None:
    with pytest.raises(NoSuchFile):
        await storage.files.get(PROJECT, "file-\0")
    with pytest.raises(NotFound):
        await storage.uploads.cancel(PROJECT, "upload_\0")
