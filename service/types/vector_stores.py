"""Vector stores: what requests for them say, and how they are shown."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from assistants.v1 import vector_stores_pb2

from service.types import checks, chunking_strategy, metadata
from service.types.json_value import Json
from service.types.requests import Field
from storage.rows import VectorStore, VectorStoreBatch

MAX_FILES = 500
MAX_DAYS = 365
ANCHORS = ("last_active_at",)
COUNTED = ("in_progress", "completed", "failed", "cancelled")


def id_of(param: str, value: str) -> str:
    """Returns a vector store's id. Refuses one of another kind."""
    return checks.object_id(param, value, "vs_")


def parse_file_ids(param: str, given: Sequence[str], maximum: int = MAX_FILES) -> list[str]:
    """Returns ids of files, each once, in their order."""
    checks.array(param, len(given), maximum)
    found = (checks.object_id(f"{param}[{at}]", each, "file") for at, each in enumerate(given))
    return list(dict.fromkeys(found))


def _expires_after(param: str, given: vector_stores_pb2.ExpiresAfter) -> Json:
    anchor = checks.choice(f"{param}.anchor", given.anchor, ANCHORS)
    if not given.HasField("days"):
        checks.missing(f"{param}.days")
    return {"anchor": anchor, "days": checks.integer(f"{param}.days", given.days, 1, MAX_DAYS)}


_NAME = Field("name", partial(checks.text, maximum=256))
_EXPIRES_AFTER = Field("expires_after", _expires_after)

FIELDS: tuple[Field, ...] = (
    _NAME,
    Field("description", partial(checks.text, maximum=512)),
    _EXPIRES_AFTER,
    metadata.FIELD,
)
"""What a caller may write of a new vector store, in the order of checking, but for its files."""

FILES: tuple[Field, ...] = (
    Field("file_ids", parse_file_ids, default=[]),
    chunking_strategy.FIELD,
)
"""The files of a new vector store."""

MODIFIABLE: tuple[Field, ...] = (_NAME, _EXPIRES_AFTER, metadata.FIELD)
"""What a caller may modify."""


def status(row: VectorStore) -> str:
    """Returns how far a vector store is."""
    if row.expired:
        return "expired"
    return "in_progress" if row.in_progress else "completed"


def file_counts(row: VectorStore | VectorStoreBatch) -> Json:
    """Returns how many files there are, by status, and in all."""
    counts = {name: getattr(row, name) for name in COUNTED}
    return {**counts, "total": sum(counts.values())}


def to_json(row: VectorStore) -> Json:
    """Returns a VectorStoreObject."""
    shown = {
        "id": row.id,
        "object": "vector_store",
        "created_at": row.created_at,
        "name": row.name,
        "usage_bytes": row.usage_bytes,
        "file_counts": file_counts(row),
        "status": status(row),
        "expires_after": row.expires_after,
        "expires_at": row.expires_at,
        "last_active_at": row.last_active_at,
        "metadata": metadata.to_json(row.metadata_),
    }
    if row.expires_after is None:
        del shown["expires_after"]
    return shown


def extensions(row: VectorStore) -> Json:
    """Returns the fields that only protobuf shows: OpenAI's object has no key for them."""
    return {"description": row.description}


def to_fields(value: Json, extensions: Mapping[str, Any]) -> Json:
    """Returns the fields of the same in protobuf, with its extensions."""
    fields = {**value, **extensions, "metadata": value["metadata"] or None}
    del fields["object"]
    return fields
