"""Reads OpenAI's JSON of vector stores back out of messages, as tests/support/types/walker.py."""

from collections.abc import Callable
from typing import Any

from assistants.v1 import vector_store_files_pb2, vector_stores_pb2
from google.protobuf.message import Message

from service.types.json_value import struct_to_python
from tests.support.types import walker_values as values
from tests.support.types.walker_values import Json, optional


def store(value: vector_stores_pb2.VectorStore) -> Json:
    """Returns a VectorStoreObject."""
    shown: Json = {
        "id": value.id,
        "object": "vector_store",
        "created_at": value.created_at,
        "name": optional(value, "name"),
        "usage_bytes": value.usage_bytes,
        "file_counts": counts(value.file_counts),
        "status": vector_stores_pb2.VectorStore.Status.Name(value.status),
    }
    if value.HasField("expires_after"):
        after = value.expires_after
        shown["expires_after"] = {"anchor": after.anchor, "days": after.days}
    return shown | {
        "expires_at": optional(value, "expires_at"),
        "last_active_at": value.last_active_at,
        "metadata": values.metadata(value.metadata),
    }


def counts(value: vector_stores_pb2.FileCounts) -> Json:
    """Returns the numbers of files by status."""
    names = ("in_progress", "completed", "failed", "cancelled", "total")
    return {name: getattr(value, name) for name in names}


def file(value: vector_store_files_pb2.VectorStoreFile) -> Json:
    """Returns a VectorStoreFileObject."""
    kind = vector_store_files_pb2.VectorStoreFile
    error = None
    if value.HasField("last_error"):
        code = kind.LastError.Code.Name(value.last_error.code)
        error = {"code": code, "message": value.last_error.message}
    return {
        "id": value.id,
        "object": "vector_store.file",
        "usage_bytes": value.usage_bytes,
        "created_at": value.created_at,
        "vector_store_id": value.vector_store_id,
        "status": kind.Status.Name(value.status),
        "last_error": error,
        "chunking_strategy": chunking_strategy(value.chunking_strategy),
        "attributes": attributes(value),
    }


def chunking_strategy(value: vector_stores_pb2.ChunkingStrategy) -> Json:
    """Returns a StaticChunkingStrategyResponseParam."""
    sizes = {
        "max_chunk_size_tokens": value.static.max_chunk_size_tokens,
        "chunk_overlap_tokens": value.static.chunk_overlap_tokens,
    }
    return {"type": value.type, "static": sizes}


def attributes(value: Any) -> Json:
    """Returns the attributes of a file."""
    return struct_to_python(value.attributes, "attributes")


def batch(value: vector_store_files_pb2.VectorStoreFileBatch) -> Json:
    """Returns a VectorStoreFileBatchObject."""
    return {
        "id": value.id,
        "object": "vector_store.files_batch",
        "created_at": value.created_at,
        "vector_store_id": value.vector_store_id,
        "status": vector_store_files_pb2.VectorStoreFileBatch.Status.Name(value.status),
        "file_counts": counts(value.file_counts),
    }


def results(value: vector_stores_pb2.SearchVectorStoreResponse) -> Json:
    """Returns a VectorStoreSearchResultsPage."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": [*value.search_query],
        "data": [
            {
                "file_id": each.file_id,
                "filename": each.filename,
                "score": each.score,
                "attributes": attributes(each),
                "content": [{"type": part.type, "text": part.text} for part in each.content],
            }
            for each in value.data
        ],
        "has_more": value.has_more,
        "next_page": optional(value, "next_page"),
    }


def text(value: vector_store_files_pb2.ListVectorStoreFileContentResponse) -> Json:
    """Returns a VectorStoreFileContentResponse."""
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": part.type, "text": part.text} for part in value.data],
        "has_more": value.has_more,
        "next_page": optional(value, "next_page"),
    }


OBJECTS: dict[type[Message], Callable[[Any], Json]] = {
    vector_stores_pb2.VectorStore: store,
    vector_store_files_pb2.VectorStoreFile: file,
    vector_store_files_pb2.VectorStoreFileBatch: batch,
    vector_stores_pb2.SearchVectorStoreResponse: results,
    vector_store_files_pb2.ListVectorStoreFileContentResponse: text,
}
PAGES: dict[type[Message], Callable[[Any], Json]] = {
    vector_stores_pb2.ListVectorStoresResponse: store,
    vector_store_files_pb2.ListVectorStoreFilesResponse: file,
}
DELETIONS: dict[type[Message], str] = {
    vector_stores_pb2.DeleteVectorStoreResponse: "vector_store.deleted",
    vector_store_files_pb2.DeleteVectorStoreFileResponse: "vector_store.file.deleted",
}
