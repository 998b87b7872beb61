"""Tool resources: what the server's tools work on, of an assistant or a thread."""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import common_pb2

from service.errors import ApiError, Kind
from service.types import checks, chunking_strategy, metadata, vector_stores
from service.types.requests import Field
from storage.entries import NewEntry
from storage.resources import NOTHING, NewStore, Resources

MAX_FILES = 20
MAX_STORES = 1
MAX_NEW_FILES = 10_000
CODE, SEARCH = "code_interpreter", "file_search"


def parse(param: str, given: common_pb2.ToolResources) -> Resources:
    """Returns tool resources; those of no tool at all clear what there was.

    Whether there is what they name, storage finds out.
    """
    found: dict[str, Any] = {}
    new_store = None
    if given.HasField("code_interpreter"):
        name = f"{param}.{CODE}.file_ids"
        ids = vector_stores.parse_file_ids(name, given.code_interpreter.file_ids, MAX_FILES)
        found[CODE] = {"file_ids": ids}
    if given.HasField("file_search"):
        search, name = given.file_search, f"{param}.{SEARCH}"
        checks.array(f"{name}.vector_store_ids", len(search.vector_store_ids), MAX_STORES)
        checks.array(f"{name}.vector_stores", len(search.vector_stores), MAX_STORES)
        ids = [
            vector_stores.id_of(f"{name}.vector_store_ids[{at}]", each)
            for at, each in enumerate(search.vector_store_ids)
        ]
        found[SEARCH] = {"vector_store_ids": ids}
        for store in search.vector_stores:
            if ids:
                message = "Only one of 'vector_store_ids' and 'vector_stores' can be given."
                raise ApiError(Kind.invalid_value, message, name)
            new_store = _new_store(f"{name}.vector_stores[0]", store)
    return Resources(found, new_store, cleared=not found)


def _new_store(param: str, given: common_pb2.ToolResources.VectorStore) -> NewStore:
    ids = vector_stores.parse_file_ids(f"{param}.file_ids", given.file_ids, MAX_NEW_FILES)
    strategy = chunking_strategy.AUTO
    if given.HasField("chunking_strategy"):
        name = f"{param}.chunking_strategy"
        strategy = chunking_strategy.parse_json(name, given.chunking_strategy)
    pairs = metadata.parse(f"{param}.metadata", given.metadata)
    return NewStore(pairs, [NewEntry(id, strategy, {}) for id in ids])


def parse_existing(param: str, given: common_pb2.ToolResources) -> Resources:
    """Does the same where no vector store can be created along."""
    if given.file_search.vector_stores:
        checks.unknown(f"{param}.{SEARCH}.vector_stores")
    return parse(param, given)


def to_json(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the resources that are there, `{}` for none."""
    return {name: stored[name] for name in (CODE, SEARCH) if name in stored}


def to_proto(value: Mapping[str, Any]) -> common_pb2.ToolResources:
    """Returns the same in protobuf; those that name nothing stay as they are."""
    result = common_pb2.ToolResources()
    if CODE in value:
        result.code_interpreter.file_ids.extend(value[CODE]["file_ids"])
        result.code_interpreter.SetInParent()
    if SEARCH in value:
        result.file_search.vector_store_ids.extend(value[SEARCH]["vector_store_ids"])
        result.file_search.SetInParent()
    return result


FIELD = Field("tool_resources", parse, default=NOTHING)
"""The field of requests that create assistants and threads."""

MODIFIED = Field("tool_resources", parse_existing, default=NOTHING)
"""The field of requests that modify them."""
