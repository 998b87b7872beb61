"""The API's files, as tools need them: those that a run has been given, and those that it makes."""

from collections.abc import AsyncIterator, Sequence

from service.files.blobs import BlobNotFound, BlobStore
from service.files.blobs.contents import Part, read
from storage import Storage, ids
from storage.errors import NoSuchFile, NotFound
from storage.files import NewBlob
from storage.rows import File, Run

PURPOSE = "assistants_output"


class Files:
    """Files of projects, on storage and blobs."""

    def __init__(self, storage: Storage, blobs: BlobStore) -> None:
        """Reads and writes rows in `storage`, bytes in `blobs`."""
        self._storage = storage
        self._blobs = blobs

    async def of_run(self, run: Run, tool: str) -> Sequence[File]:
        """Returns the files that the run's assistant and its thread give to a tool.

        Those that are gone are left out. Raises Unreachable.
        """
        try:
            thread = await self._storage.threads.get(run.project_id, run.thread_id)
        except NotFound:
            return []
        named = [
            file_id
            for resources in (run.tool_resources or {}, thread.tool_resources)
            for file_id in resources.get(tool, {}).get("file_ids", ())
        ]
        found = [await self.get(run.project_id, file_id) for file_id in dict.fromkeys(named)]
        return [file for file in found if file is not None]

    async def get(self, project: str, file_id: str) -> File | None:
        """Returns a file, if it is there. Raises Unreachable."""
        try:
            return await self._storage.files.get(project, file_id)
        except NoSuchFile:
            return None

    async def read(self, file: File) -> AsyncIterator[bytes]:
        """Yields a file's bytes. Raises FileNotFoundError when it is gone, BlobsUnavailable."""
        try:
            content = await self._storage.files.content(file.project_id, file.id)
            parts = [Part(blob.id, blob.bytes) for blob in content.blobs]
            async for piece in read(self._blobs, parts):
                yield piece
        except (NoSuchFile, BlobNotFound) as error:
            raise FileNotFoundError(file.id) from error

    async def write(self, project: str, filename: str, pieces: AsyncIterator[bytes]) -> File:
        """Makes a file of what a tool has put out. Raises BlobsUnavailable, Unreachable."""
        key = ids.new_id(ids.BLOB)
        async with self._blobs.create(key) as blob:
            async for piece in pieces:
                await blob.write(piece)
            await blob.accept()
        values = {"filename": filename, "purpose": PURPOSE, "expires_after": None}
        # If that fails, the blob is swept.
        return await self._storage.files.create(project, values, NewBlob(key, blob.size))
