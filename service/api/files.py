"""FilesService: unpacks and checks requests, and hands them to storage and the blob store."""

from assistants.v1 import files_pb2

from service.api.transfers import Download, Incoming
from service.calls import Caller
from service.files.blobs import BlobStore
from service.files.leftovers import discard
from service.types import checks, files, paging, requests
from service.types.answers import Deleted
from storage import Storage, ids
from storage.files import NewBlob
from storage.pages import Page
from storage.rows import File


class FilesServicer:
    """The methods of FilesService."""

    def __init__(
        self, storage: Storage, blobs: BlobStore, max_bytes: int, *, download_every_purpose: bool
    ) -> None:
        """Works on `storage`; bytes are in `blobs`. A file has `max_bytes` at most.

        Without `download_every_purpose`, files of some are given nobody back.
        """
        self._storage = storage
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._download_every_purpose = download_every_purpose

    async def UploadFile(self, incoming: Incoming, caller: Caller) -> File:
        """Stores a file: first its bytes, then its row, so that no row names what is half."""
        if incoming.announced:
            requests.create(incoming.request, files.FIELDS, refuse=files.missing)
        key = ids.new_id(ids.BLOB)
        async with self._blobs.create(key) as blob:
            async for piece in incoming.pieces(self._max_bytes):
                await blob.write(piece)
            values = requests.create(incoming.request, files.FIELDS, refuse=files.missing)
            await blob.accept()
        # If that fails, the blob is swept.
        new = NewBlob(key, blob.size)
        return await self._storage.files.create(caller.project, values, new)

    async def ListFiles(self, request: files_pb2.ListFilesRequest, caller: Caller) -> Page[File]:
        """Returns a page of files."""
        page = paging.parse(request, limit=files.DEFAULT_LIMIT, maximum=files.MAX_LIMIT)
        purpose = checks.text("purpose", request.purpose, 512) or None
        return await self._storage.files.list(caller.project, page, purpose)

    async def GetFile(self, request: files_pb2.GetFileRequest, caller: Caller) -> File:
        """Returns a file."""
        file_id = files.object_id(request.file_id)
        return await self._storage.files.get(caller.project, file_id)

    async def DeleteFile(self, request: files_pb2.DeleteFileRequest, caller: Caller) -> Deleted:
        """Deletes a file, and then its bytes."""
        file_id = files.object_id(request.file_id)
        await discard(self._blobs, await self._storage.files.delete(caller.project, file_id))
        return Deleted("file", file_id)

    async def DownloadFile(
        self, request: files_pb2.DownloadFileRequest, caller: Caller
    ) -> Download:
        """Returns a file to be read."""
        file_id = files.object_id(request.file_id)
        content = await self._storage.files.content(caller.project, file_id)
        if not self._download_every_purpose:
            files.check_downloadable(content.file)
        return Download(self._blobs, content)
