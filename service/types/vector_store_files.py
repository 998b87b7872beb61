"""Files of vector stores: what requests for them say, and how they are shown."""

from typing import Any, Protocol

from assistants.v1 import vector_store_files_pb2

from service.errors import ApiError, Kind
from service.types import (
    attributes,
    checks,
    chunking_strategy,
    json_value,
    last_error,
    requests,
    vector_stores,
)
from service.types.json_value import Json
from service.types.requests import Field
from storage.entries import NewEntry
from storage.rows import VectorStoreBatch
from storage.vector_store_files import Entry, Text

MAX_BATCH = 2000
STATUSES = ("in_progress", "completed", "failed", "cancelled")


def file_id_of(param: str, value: str) -> str:
    """Returns a file's id. Refuses one of another kind."""
    return checks.object_id(param, value, "file")


def batch_id_of(param: str, value: str) -> str:
    """Returns a batch's id. Refuses one of another kind."""
    return checks.object_id(param, value, "vsfb_")


FIELDS: tuple[Field, ...] = (
    Field("file_id", file_id_of, required=True),
    chunking_strategy.FIELD,
    attributes.FIELD,
)
"""What a caller says of a file to put into a vector store, in the order of checking."""

MODIFIABLE: tuple[Field, ...] = (attributes.FIELD,)

_COMMON: tuple[Field, ...] = (chunking_strategy.FIELD, attributes.FIELD)


class Filtered(Protocol):
    """What requests that list files of a vector store have in common."""

    filter: str

    def HasField(self, name: Any) -> bool:
        """Returns whether the caller gave a value."""


def parse_new(
    request: vector_store_files_pb2.CreateVectorStoreFileRequest
    | vector_store_files_pb2.NewVectorStoreFile,
    path: str = "",
) -> NewEntry:
    """Returns the file to put into a vector store; `path` is empty or ends in a dot."""
    return NewEntry(**requests.create(request, FIELDS, path=path))


def parse_batch(
    request: vector_store_files_pb2.CreateVectorStoreFileBatchRequest,
) -> list[NewEntry]:
    """Returns the files of a batch, each once: of one that is given twice, the last counts."""
    if request.file_ids and request.files:
        raise ApiError(Kind.malformed, "Only one of 'file_ids' and 'files' can be given.")
    if request.files:
        checks.array("files", len(request.files), MAX_BATCH)
        files = [parse_new(each, f"files[{at}].") for at, each in enumerate(request.files)]
    else:
        if not request.file_ids:
            checks.missing("file_ids")
        ids = vector_stores.parse_file_ids("file_ids", request.file_ids, MAX_BATCH)
        common = requests.create(request, _COMMON)
        files = [NewEntry(id, **common) for id in ids]
    return list({each.file_id: each for each in files}.values())


def parse_filter(request: Filtered) -> str | None:
    """Returns the status that listed files must have, None for any."""
    if not request.HasField("filter"):
        return None
    return checks.choice("filter", request.filter, STATUSES)


def to_json(entry: Entry) -> Json:
    """Returns a VectorStoreFileObject."""
    row = entry.row
    return {
        "id": row.file_id,
        "object": "vector_store.file",
        "usage_bytes": row.usage_bytes,
        "created_at": row.created_at,
        "vector_store_id": row.vector_store_id,
        "status": row.status,
        "last_error": last_error.to_json(row.last_error),
        "chunking_strategy": row.chunking_strategy,
        "attributes": attributes.to_json(row.attributes),
    }


def to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    fields = value | {"attributes": json_value.struct_from_python(value["attributes"])}
    del fields["object"]
    return fields


def batch_status(row: VectorStoreBatch) -> str:
    """Returns how far a batch is."""
    if row.in_progress:
        return "in_progress"
    return "cancelled" if row.is_cancelled else "completed"


def batch_to_json(row: VectorStoreBatch) -> Json:
    """Returns a VectorStoreFileBatchObject."""
    return {
        "id": row.id,
        "object": "vector_store.files_batch",
        "created_at": row.created_at,
        "vector_store_id": row.vector_store_id,
        "status": batch_status(row),
        "file_counts": vector_stores.file_counts(row),
    }


def batch_to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    return {key: item for key, item in value.items() if key != "object"}


def text_to_json(text: Text) -> Json:
    """Returns a VectorStoreFileContentResponse."""
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": each} for each in text.stretches],
        "has_more": False,
        "next_page": None,
    }


def text_to_fields(value: Json) -> Json:
    """Returns the fields of the same in protobuf."""
    return {"data": value["data"], "has_more": value["has_more"]}
