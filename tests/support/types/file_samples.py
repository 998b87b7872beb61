"""Rows of vector stores with everything set and with nothing, and the answers made of them."""

from typing import Any

from service.files.results import Result
from service.types.answers import Answer, Deleted
from service.types.vector_store_search import Results
from storage import rows
from storage.file_tables import EntryStatus
from storage.pages import Page
from storage.vector_store_files import Entry, Text

OWNED: dict[str, Any] = {"project_id": "proj_1", "created_at": 1}
ATTRIBUTES: dict[str, Any] = {"z": "a", "b": True, "a": 0.5, "n": -3, "": ""}
STATIC: dict[str, Any] = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 0},
}
COUNTS = {"in_progress": 1, "completed": 2, "failed": 3, "cancelled": 4}


def store(**changes: Any) -> rows.VectorStore:
    """A vector store, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"metadata_": {}, "last_active_at": 1, "position": "0"}
    return rows.VectorStore(id="vs_1", **OWNED | bare | changes)


def batch(**changes: Any) -> rows.VectorStoreBatch:
    """A batch, of which nothing is set but for `changes`."""
    return rows.VectorStoreBatch(id="vsfb_1", vector_store_id="vs_1", **OWNED | changes)


def entry(**changes: Any) -> Entry:
    """A file of a vector store, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"vector_store_id": "vs_1", "file_id": "file-1", "position": "0"}
    bare |= {"status": "in_progress", "queued_at": 1.5, "attributes": {}}
    bare |= {"chunking_strategy": STATIC}
    return Entry(rows.VectorStoreFile(id="entry_1", **OWNED | bare | changes))


def result(**changes: Any) -> Result:
    """A chunk that was found."""
    found: dict[str, Any] = {"vector_store_id": "vs_1", "file_id": "file-1", "filename": "a ü.txt"}
    found |= {"attributes": {}, "score": 0.5, "text": "a\n", "tokens": 2, "chunk": 1}
    return Result(**found | changes)


STORES = [
    store(),
    store(expired=True, expires_at=2),
    store(
        name="n",
        description="d",
        metadata_={"b": "1", "a": "2"},
        expires_after={"anchor": "last_active_at", "days": 7},
        expires_at=604801,
        usage_bytes=2**40,
        **COUNTS,
    ),
]
BATCHES = [batch(), batch(**COUNTS), batch(is_cancelled=True, cancelled=1)]
ENTRIES = [
    *(entry(status=str(status)) for status in EntryStatus),
    *(
        entry(status="failed", last_error={"message": "m", "code": code})
        for code in ("server_error", "unsupported_file", "invalid_file")
    ),
    entry(attributes=ATTRIBUTES, usage_bytes=2**40, status="completed"),
]
SEARCHES = [
    Results("vs_1", ["q"], []),
    Results("vs_1", ["q", "r"], [result(attributes=ATTRIBUTES), result(score=0.0)]),
]
TEXTS = [Text("file-1", []), Text("file-1", ["a\n", "b"])]

EMPTY: Page[Any] = Page([], False)


def _page(found: Any) -> Page[Any]:
    return Page([*found], True)


ANSWERS: list[tuple[str, str, Answer]] = [
    *(("VectorStoreObject", "VectorStore", row) for row in STORES),
    *(("VectorStoreFileBatchObject", "VectorStoreFileBatch", row) for row in BATCHES),
    *(("VectorStoreFileObject", "VectorStoreFile", row) for row in ENTRIES),
    *(("VectorStoreSearchResultsPage", "SearchVectorStoreResponse", found) for found in SEARCHES),
    *(
        ("VectorStoreFileContentResponse", "ListVectorStoreFileContentResponse", text)
        for text in TEXTS
    ),
    *(
        (name, name, page)
        for name, found in (
            ("ListVectorStoresResponse", STORES),
            ("ListVectorStoreFilesResponse", ENTRIES),
        )
        for page in (EMPTY, _page(found))
    ),
    ("DeleteVectorStoreResponse", "DeleteVectorStoreResponse", Deleted("vector_store", "vs_1")),
    (
        "DeleteVectorStoreFileResponse",
        "DeleteVectorStoreFileResponse",
        Deleted("vector_store.file", "file-1"),
    ),
]
"""OpenAI's schema, the message of `assistants.v1`, and an answer that is presented as both."""
