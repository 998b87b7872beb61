"""A request for every method of vector stores; see tests/support/access/cases.py."""

from typing import Any, Final

import openai

IN_STORE: Final = {"vector_store_id": "{store}"}
OF_FILE: Final = IN_STORE | {"file_id": "{file}"}
OF_BATCH: Final = IN_STORE | {"batch_id": "{batch}"}

CASES: Final[dict[str, dict[str, Any]]] = {
    "CreateVectorStore": {"file_ids": ["{file}"]},
    "ListVectorStores": {"after": "~store"},
    "GetVectorStore": IN_STORE,
    "ModifyVectorStore": IN_STORE | {"name": "stolen"},
    "DeleteVectorStore": IN_STORE,
    "SearchVectorStore": IN_STORE | {"query": "stolen"},
    "CreateVectorStoreFile": OF_FILE | {"attributes": {"stolen": 1}},
    "ListVectorStoreFiles": IN_STORE | {"after": "~file"},
    "GetVectorStoreFile": OF_FILE,
    "ModifyVectorStoreFile": OF_FILE | {"attributes": {"stolen": 1}},
    "DeleteVectorStoreFile": OF_FILE,
    "ListVectorStoreFileContent": OF_FILE,
    "CreateVectorStoreFileBatch": IN_STORE | {"file_ids": ["{file}"]},
    "GetVectorStoreFileBatch": OF_BATCH,
    "CancelVectorStoreFileBatch": OF_BATCH,
    "ListFilesInVectorStoreBatch": OF_BATCH | {"after": "~file"},
}
"""By the methods' names."""

OBJECTS: Final = {
    "CreateVectorStore": "vs",
    "ModifyVectorStore": "vs",
    "DeleteVectorStore": "vs",
    "SearchVectorStore": "vs",
    "CreateVectorStoreFile": "file",
    "ModifyVectorStoreFile": "file",
    "DeleteVectorStoreFile": "file",
    "CreateVectorStoreFileBatch": "vsfb",
    "CancelVectorStoreFileBatch": "vsfb",
}
"""The prefix of the object that the log's line of each call names."""


def make(client: openai.OpenAI, file_id: str) -> dict[str, str]:
    """Makes a vector store with a file; returns ids by kind."""
    stores = client.vector_stores
    store = stores.create()
    batch = stores.file_batches.create_and_poll(store.id, file_ids=[file_id])
    assert batch.file_counts.completed == 1
    return {"store": store.id, "batch": batch.id}
