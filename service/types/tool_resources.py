"""Tool resources: what the server's tools work on, of an assistant or a thread."""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import common_pb2

from service.types import checks, files, tools
from service.types.requests import Field


def parse(param: str, given: common_pb2.ToolResources) -> dict[str, Any]:
    """Returns tool resources, which can name nothing: this server keeps no files."""
    result: dict[str, Any] = {}
    if given.HasField("code_interpreter"):
        file_ids = given.code_interpreter.file_ids
        checks.array(f"{param}.code_interpreter.file_ids", len(file_ids), 20)
        if file_ids:
            files.unknown(file_ids[0])
        result["code_interpreter"] = {"file_ids": []}
    if given.HasField("file_search"):
        search, name = given.file_search, f"{param}.file_search"
        checks.array(f"{name}.vector_store_ids", len(search.vector_store_ids), 1)
        checks.array(f"{name}.vector_stores", len(search.vector_stores), 1)
        if search.vector_store_ids:
            files.unknown_vector_store(search.vector_store_ids[0])
        for store in search.vector_stores:
            if store.file_ids:
                files.unknown(store.file_ids[0])
            tools.unavailable(f"{name}.vector_stores", "file_search")
        result["file_search"] = {"vector_store_ids": []}
    return result


def to_json(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the resources that are there, `{}` for none."""
    return {name: stored[name] for name in ("code_interpreter", "file_search") if name in stored}


def to_proto(value: Mapping[str, Any]) -> common_pb2.ToolResources:
    """Returns the same in protobuf; those that name nothing stay as they are."""
    result = common_pb2.ToolResources()
    if "code_interpreter" in value:
        result.code_interpreter.file_ids.extend(value["code_interpreter"]["file_ids"])
        result.code_interpreter.SetInParent()
    if "file_search" in value:
        result.file_search.vector_store_ids.extend(value["file_search"]["vector_store_ids"])
        result.file_search.SetInParent()
    return result


FIELD = Field("tool_resources", parse, default={})
"""The field of assistants and of threads."""
