"""UploadsService: unpacks and checks requests, and hands them to storage and the blob store."""

import asyncio
import hashlib

from assistants.v1 import uploads_pb2

from service.api.transfers import Incoming
from service.calls import Caller
from service.errors import ApiError, Kind
from service.files.blobs import BlobNotFound, BlobStore
from service.files.blobs.contents import Part as Piece
from service.files.blobs.contents import read
from service.files.leftovers import discard
from service.types import checks, requests, uploads
from storage import Storage, ids
from storage.files import NewBlob
from storage.uploads import Part, Shown


class UploadsServicer:
    """The methods of UploadsService."""

    def __init__(
        self, storage: Storage, blobs: BlobStore, *, max_bytes: int, max_part_bytes: int
    ) -> None:
        """Works on `storage`; bytes are in `blobs`. Files and parts have so many bytes at most."""
        self._storage = storage
        self._blobs = blobs
        self._fields = uploads.fields(max_bytes)
        self._max_part_bytes = max_part_bytes

    async def CreateUpload(self, request: uploads_pb2.CreateUploadRequest, caller: Caller) -> Shown:
        """Begins an upload."""
        values = requests.create(request, self._fields)
        return await self._storage.uploads.create(caller.project, values)

    async def AddUploadPart(self, incoming: Incoming, caller: Caller) -> Part:
        """Stores a part: first its bytes, then its row."""
        upload_id = _id(incoming.request.upload_id)
        await self._storage.uploads.check_pending(caller.project, upload_id)
        key = ids.new_id(ids.PART)
        async with self._blobs.create(key) as blob:
            async for piece in incoming.pieces(self._max_part_bytes):
                await blob.write(piece)
            await blob.accept()
        # If that fails, the blob is swept.
        new = NewBlob(key, blob.size)
        return await self._storage.uploads.add_part(caller.project, upload_id, new)

    async def CompleteUpload(
        self, request: uploads_pb2.CompleteUploadRequest, caller: Caller
    ) -> Shown:
        """Makes a file of the parts."""
        upload_id, part_ids = _id(request.upload_id), uploads.part_ids("part_ids", request.part_ids)
        if request.HasField("md5"):
            expected = uploads.md5("md5", request.md5)
            parts = await self._storage.uploads.parts(caller.project, upload_id, part_ids)
            try:
                found = await self._md5([Piece(part.id, part.bytes) for part in parts])
            except BlobNotFound:
                # An upload that has ended meanwhile has lost its parts: that is the answer.
                await self._storage.uploads.check_pending(caller.project, upload_id)
                raise
            if found != expected:
                raise ApiError(Kind.malformed, "The md5 of the parts does not match.")
        ended = await self._storage.uploads.complete(caller.project, upload_id, part_ids)
        await discard(self._blobs, ended.leftover)
        return ended.shown

    async def CancelUpload(self, request: uploads_pb2.CancelUploadRequest, caller: Caller) -> Shown:
        """Ends an upload without a file."""
        ended = await self._storage.uploads.cancel(caller.project, _id(request.upload_id))
        await discard(self._blobs, ended.leftover)
        return ended.shown

    async def _md5(self, parts: list[Piece]) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        async for piece in read(self._blobs, parts):
            await asyncio.to_thread(digest.update, piece)
        return digest.hexdigest()


def _id(upload_id: str) -> str:
    return checks.object_id("upload_id", upload_id, "upload")
