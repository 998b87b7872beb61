"""Vector stores, typed: every call, in the order in which a caller comes to them."""

from assistants.v1 import vector_store_files_pb2 as files_pb2
from assistants.v1 import vector_stores_pb2

from service.types.json_value import from_python, struct_from_python
from tests.support.grpc.stubs import Stubs
from tests.support.waiting import until

TEXT = b"Foxes eat berries, mice and beetles.\n" * 10


def test_a_vector_store(stubs: Stubs) -> None:
    stores = stubs.vector_stores
    made = stores.CreateVectorStore(
        vector_stores_pb2.CreateVectorStoreRequest(
            name="n",
            description="d",
            metadata={"a": "b"},
            expires_after=vector_stores_pb2.ExpiresAfter(anchor="last_active_at", days=3),
        )
    )
    assert made.id.startswith("vs_")
    assert (made.description, made.status) == ("d", vector_stores_pb2.VectorStore.completed)
    assert made.expires_at == made.last_active_at + 3 * 86_400
    get = vector_stores_pb2.GetVectorStoreRequest(vector_store_id=made.id)
    assert stores.GetVectorStore(get) == made
    modify = vector_stores_pb2.ModifyVectorStoreRequest(vector_store_id=made.id, name="m")
    modify.update_mask.paths.extend(["name", "expires_after"])
    modified = stores.ModifyVectorStore(modify)
    assert (modified.name, modified.HasField("expires_at")) == ("m", False)
    page = stores.ListVectorStores(vector_stores_pb2.ListVectorStoresRequest(limit=1))
    assert (list(page.data), page.first_id) == ([modified], made.id)
    gone = stores.DeleteVectorStore(
        vector_stores_pb2.DeleteVectorStoreRequest(vector_store_id=made.id)
    )
    assert (gone.id, gone.deleted) == (made.id, True)


async def test_files_and_a_search(stubs: Stubs) -> None:
    file = stubs.upload("foxes.txt", TEXT)
    store = stubs.vector_stores.CreateVectorStore(vector_stores_pb2.CreateVectorStoreRequest())
    kind = files_pb2.VectorStoreFile
    created = stubs.vector_store_files.CreateVectorStoreFile(
        files_pb2.CreateVectorStoreFileRequest(
            vector_store_id=store.id, file_id=file, attributes=struct_from_python({"n": 1})
        )
    )
    assert (created.id, created.status) == (file, kind.in_progress)
    assert created.chunking_strategy.static.max_chunk_size_tokens == 800
    get = files_pb2.GetVectorStoreFileRequest(vector_store_id=store.id, file_id=file)
    one = stubs.vector_store_files.GetVectorStoreFile
    await until(lambda: one(get).status == kind.completed)
    modified = stubs.vector_store_files.ModifyVectorStoreFile(
        files_pb2.ModifyVectorStoreFileRequest(
            vector_store_id=store.id, file_id=file, attributes=struct_from_python({"n": 2})
        )
    )
    assert modified == one(get)
    found = stubs.vector_stores.SearchVectorStore(
        vector_stores_pb2.SearchVectorStoreRequest(
            vector_store_id=store.id,
            query=from_python(["beetles"]),
            filters=struct_from_python({"type": "gte", "key": "n", "value": 2}),
            ranking_options={"score_threshold": 0.1},
        )
    )
    assert list(found.search_query) == ["beetles"]
    [result] = found.data
    assert (result.file_id, result.filename, result.content[0].type) == (file, "foxes.txt", "text")
    content = files_pb2.ListVectorStoreFileContentRequest(vector_store_id=store.id, file_id=file)
    parts = stubs.vector_store_files.ListVectorStoreFileContent(content).data
    assert "".join(part.text for part in parts).encode() == TEXT
    page = stubs.vector_store_files.ListVectorStoreFiles(
        files_pb2.ListVectorStoreFilesRequest(vector_store_id=store.id, filter="completed")
    )
    assert list(page.data) == [modified]
    gone = stubs.vector_store_files.DeleteVectorStoreFile(
        files_pb2.DeleteVectorStoreFileRequest(vector_store_id=store.id, file_id=file)
    )
    assert (gone.id, gone.deleted) == (file, True)


async def test_a_batch(stubs: Stubs) -> None:
    file = stubs.upload("foxes.txt", TEXT)
    store = stubs.vector_stores.CreateVectorStore(vector_stores_pb2.CreateVectorStoreRequest())
    new = files_pb2.NewVectorStoreFile(file_id=file, attributes=struct_from_python({"a": "b"}))
    batch = stubs.vector_store_files.CreateVectorStoreFileBatch(
        files_pb2.CreateVectorStoreFileBatchRequest(vector_store_id=store.id, files=[new])
    )
    kind = files_pb2.VectorStoreFileBatch
    assert (batch.status, batch.file_counts.in_progress) == (kind.in_progress, 1)
    get = files_pb2.GetVectorStoreFileBatchRequest(vector_store_id=store.id, batch_id=batch.id)
    one = stubs.vector_store_files.GetVectorStoreFileBatch
    await until(lambda: one(get).status == kind.completed)
    assert one(get).file_counts.completed == 1
    listed = stubs.vector_store_files.ListFilesInVectorStoreBatch(
        files_pb2.ListFilesInVectorStoreBatchRequest(vector_store_id=store.id, batch_id=batch.id)
    )
    assert (listed.first_id, listed.has_more) == (file, False)
    cancel = files_pb2.CancelVectorStoreFileBatchRequest(
        vector_store_id=store.id, batch_id=batch.id
    )
    assert stubs.vector_store_files.CancelVectorStoreFileBatch(cancel) == one(get)
