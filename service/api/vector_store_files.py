"""VectorStoreFilesService: unpacks and checks requests, and hands them to storage."""

from typing import Protocol

from assistants.v1 import vector_store_files_pb2

from service.api.entries import check_readable
from service.calls import Caller
from service.files.library import Library
from service.types import paging, requests, vector_store_files, vector_stores
from service.types.answers import Deleted
from storage import Storage
from storage.pages import Page
from storage.rows import VectorStoreBatch
from storage.vector_store_files import Entry, Text


class _InStore(Protocol):
    """What all requests have in common."""

    vector_store_id: str


class _OfFile(_InStore, Protocol):
    """What requests for a file of a vector store have in common."""

    file_id: str


class _OfBatch(_InStore, Protocol):
    """What requests for a batch have in common."""

    batch_id: str


class VectorStoreFilesServicer:
    """The methods of VectorStoreFilesService."""

    def __init__(self, storage: Storage, library: Library) -> None:
        """Works on `storage`; `library` indexes what is put in."""
        self._storage = storage
        self._library = library

    async def CreateVectorStoreFile(
        self, request: vector_store_files_pb2.CreateVectorStoreFileRequest, caller: Caller
    ) -> Entry:
        """Puts a file into a vector store."""
        store_id, new = _store(request), vector_store_files.parse_new(request)
        entry = await self._storage.vector_store_files.create(caller.project, store_id, new)
        self._library.wake()
        return entry

    async def ListVectorStoreFiles(
        self, request: vector_store_files_pb2.ListVectorStoreFilesRequest, caller: Caller
    ) -> Page[Entry]:
        """Returns a page of a vector store's files."""
        store_id = _store(request)
        page, status = paging.parse(request), vector_store_files.parse_filter(request)
        return await self._storage.vector_store_files.list(caller.project, store_id, page, status)

    async def GetVectorStoreFile(
        self, request: vector_store_files_pb2.GetVectorStoreFileRequest, caller: Caller
    ) -> Entry:
        """Returns a file of a vector store."""
        return await self._storage.vector_store_files.get(caller.project, *_file(request))

    async def ModifyVectorStoreFile(
        self, request: vector_store_files_pb2.ModifyVectorStoreFileRequest, caller: Caller
    ) -> Entry:
        """Replaces a file's attributes."""
        store_id, file_id = _file(request)
        changes = requests.create(request, vector_store_files.MODIFIABLE)
        return await self._storage.vector_store_files.modify(
            caller.project, store_id, file_id, changes
        )

    async def DeleteVectorStoreFile(
        self, request: vector_store_files_pb2.DeleteVectorStoreFileRequest, caller: Caller
    ) -> Deleted:
        """Takes a file out of a vector store."""
        await self._storage.vector_store_files.delete(caller.project, *_file(request))
        return Deleted("vector_store.file", request.file_id)

    async def ListVectorStoreFileContent(
        self, request: vector_store_files_pb2.ListVectorStoreFileContentRequest, caller: Caller
    ) -> Text:
        """Returns the text of a file."""
        return await self._storage.vector_store_files.text(caller.project, *_file(request))

    async def CreateVectorStoreFileBatch(
        self, request: vector_store_files_pb2.CreateVectorStoreFileBatchRequest, caller: Caller
    ) -> VectorStoreBatch:
        """Puts several files into a vector store."""
        store_id, files = _store(request), vector_store_files.parse_batch(request)
        await check_readable(
            self._storage, caller.project, [each.file_id for each in files], "file_ids"
        )
        batch = await self._storage.vector_store_batches.create(caller.project, store_id, files)
        self._library.wake()
        return batch

    async def GetVectorStoreFileBatch(
        self, request: vector_store_files_pb2.GetVectorStoreFileBatchRequest, caller: Caller
    ) -> VectorStoreBatch:
        """Returns a batch."""
        return await self._storage.vector_store_batches.get(caller.project, *_batch(request))

    async def CancelVectorStoreFileBatch(
        self, request: vector_store_files_pb2.CancelVectorStoreFileBatchRequest, caller: Caller
    ) -> VectorStoreBatch:
        """Cancels the files of a batch that are in progress."""
        return await self._storage.vector_store_batches.cancel(caller.project, *_batch(request))

    async def ListFilesInVectorStoreBatch(
        self, request: vector_store_files_pb2.ListFilesInVectorStoreBatchRequest, caller: Caller
    ) -> Page[Entry]:
        """Returns a page of a batch's files."""
        store_id, batch_id = _batch(request)
        page, status = paging.parse(request), vector_store_files.parse_filter(request)
        return await self._storage.vector_store_batches.files(
            caller.project, store_id, batch_id, page, status
        )


def _store(request: _InStore) -> str:
    return vector_stores.id_of("vector_store_id", request.vector_store_id)


def _file(request: _OfFile) -> tuple[str, str]:
    return _store(request), vector_store_files.file_id_of("file_id", request.file_id)


def _batch(request: _OfBatch) -> tuple[str, str]:
    return _store(request), vector_store_files.batch_id_of("batch_id", request.batch_id)
