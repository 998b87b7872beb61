"""VectorStoresService: unpacks and checks requests, and hands them to storage and the search."""

from assistants.v1 import vector_stores_pb2

from service.api.entries import check_readable
from service.calls import Caller
from service.files.library import Library
from service.types import paging, requests, vector_store_search, vector_stores
from service.types.answers import Deleted
from service.types.vector_store_search import Results
from storage import Storage
from storage.entries import NewEntry
from storage.pages import Page
from storage.rows import VectorStore


class VectorStoresServicer:
    """The methods of VectorStoresService."""

    def __init__(self, storage: Storage, library: Library) -> None:
        """Works on `storage`; `library` indexes and searches."""
        self._storage = storage
        self._library = library

    async def CreateVectorStore(
        self, request: vector_stores_pb2.CreateVectorStoreRequest, caller: Caller
    ) -> VectorStore:
        """Creates a vector store."""
        files = requests.create(request, vector_stores.FILES)
        values = requests.create(request, vector_stores.FIELDS)
        await check_readable(self._storage, caller.project, files["file_ids"], "file_ids")
        new = [NewEntry(id, files["chunking_strategy"], {}) for id in files["file_ids"]]
        store = await self._storage.vector_stores.create(caller.project, values, new)
        self._library.wake()
        return store

    async def ListVectorStores(
        self, request: vector_stores_pb2.ListVectorStoresRequest, caller: Caller
    ) -> Page[VectorStore]:
        """Returns a page of vector stores."""
        return await self._storage.vector_stores.list(caller.project, paging.parse(request))

    async def GetVectorStore(
        self, request: vector_stores_pb2.GetVectorStoreRequest, caller: Caller
    ) -> VectorStore:
        """Returns a vector store."""
        return await self._storage.vector_stores.get(caller.project, _id(request))

    async def ModifyVectorStore(
        self, request: vector_stores_pb2.ModifyVectorStoreRequest, caller: Caller
    ) -> VectorStore:
        """Replaces the fields that are given."""
        store_id = _id(request)
        changes = requests.modify(request, vector_stores.MODIFIABLE)
        return await self._storage.vector_stores.modify(caller.project, store_id, changes)

    async def DeleteVectorStore(
        self, request: vector_stores_pb2.DeleteVectorStoreRequest, caller: Caller
    ) -> Deleted:
        """Deletes a vector store."""
        await self._storage.vector_stores.delete(caller.project, _id(request))
        return Deleted("vector_store", request.vector_store_id)

    async def SearchVectorStore(
        self, request: vector_stores_pb2.SearchVectorStoreRequest, caller: Caller
    ) -> Results:
        """Returns the chunks that are nearest to the queries."""
        store_id = _id(request)
        given = requests.create(request, vector_store_search.FIELDS)
        stores = self._storage.vector_stores
        store, idle = await stores.open(caller.project, store_id)
        queries = given["queries"]
        if given["rewrite"]:
            queries = await self._library.rewritten(queries)
            # That takes a while.
            store, idle = await stores.open(caller.project, store_id)
        if idle:
            await stores.use(caller.project, [store_id])
        found = await self._library.search.search(
            caller.project, [store], queries, given["limit"], given["threshold"], given["filter"]
        )
        return Results(store_id, queries, found)


def _id(
    request: vector_stores_pb2.GetVectorStoreRequest
    | vector_stores_pb2.ModifyVectorStoreRequest
    | vector_stores_pb2.DeleteVectorStoreRequest
    | vector_stores_pb2.SearchVectorStoreRequest,
) -> str:
    return vector_stores.id_of("vector_store_id", request.vector_store_id)
