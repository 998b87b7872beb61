"""AssistantsService: unpacks and checks requests, and hands them to storage."""

from collections.abc import Callable
from typing import Any

from assistants.v1 import assistants_pb2

from service.api import masks
from service.calls import Caller
from service.types import fields, validate
from service.types.answers import Deleted
from storage import Storage
from storage.pages import Page
from storage.rows import Assistant

Written = assistants_pb2.CreateAssistantRequest | assistants_pb2.ModifyAssistantRequest


def _optional_text(field: str, maximum: int) -> Callable[[Any], str | None]:
    def read(request: Any) -> str | None:
        if not request.HasField(field):
            return None
        return validate.text(field, getattr(request, field), maximum)

    return read


def _optional_decimal(field: str, maximum: float) -> Callable[[Any], float | None]:
    def read(request: Any) -> float | None:
        if not request.HasField(field):
            return None
        return validate.decimal(field, getattr(request, field), 0, maximum)

    return read


def _model(request: Written) -> str:
    if isinstance(request, assistants_pb2.ModifyAssistantRequest) and not request.HasField("model"):
        validate.wrong_type("model", "a string", None)
    return validate.required_text("model", request.model, 256)


def _reasoning_effort(request: Written) -> str | None:
    if not request.HasField("reasoning_effort"):
        return None
    return fields.reasoning_effort("reasoning_effort", request.reasoning_effort)


FIELDS: dict[str, Callable[[Any], Any]] = {
    "model": _model,
    "name": _optional_text("name", 256),
    "description": _optional_text("description", 512),
    "instructions": _optional_text("instructions", validate.MAX_TEXT),
    "reasoning_effort": _reasoning_effort,
    "tools": lambda request: fields.tools("tools", request.tools, 128),
    "tool_resources": lambda request: fields.tool_resources(
        "tool_resources", request.tool_resources
    ),
    "metadata": lambda request: validate.metadata("metadata", request.metadata),
    "temperature": _optional_decimal("temperature", 2),
    "top_p": _optional_decimal("top_p", 1),
    "response_format": lambda request: fields.response_format(
        "response_format", request.response_format
    ),
}
"""What a caller may write of an assistant: how each field is read, in the order of checking."""

COLUMNS = {"metadata": "metadata_"}
"""Columns that are named otherwise than their field."""


class AssistantsServicer:
    """The methods of AssistantsService."""

    def __init__(self, storage: Storage) -> None:
        """Works on `storage`."""
        self._storage = storage

    async def CreateAssistant(
        self, request: assistants_pb2.CreateAssistantRequest, caller: Caller
    ) -> Assistant:
        """Creates an assistant."""
        values = _values(request, list(FIELDS))
        return await self._storage.assistants.create(caller.project, values)

    async def ListAssistants(
        self, request: assistants_pb2.ListAssistantsRequest, caller: Caller
    ) -> Page[Assistant]:
        """Returns a page of assistants."""
        return await self._storage.assistants.list(caller.project, fields.page(request))

    async def GetAssistant(
        self, request: assistants_pb2.GetAssistantRequest, caller: Caller
    ) -> Assistant:
        """Returns an assistant."""
        return await self._storage.assistants.get(caller.project, request.assistant_id)

    async def ModifyAssistant(
        self, request: assistants_pb2.ModifyAssistantRequest, caller: Caller
    ) -> Assistant:
        """Replaces the fields that are given."""
        changes = _values(request, masks.to_modify(request, request.update_mask, FIELDS))
        return await self._storage.assistants.modify(caller.project, request.assistant_id, changes)

    async def DeleteAssistant(
        self, request: assistants_pb2.DeleteAssistantRequest, caller: Caller
    ) -> Deleted:
        """Deletes an assistant."""
        await self._storage.assistants.delete(caller.project, request.assistant_id)
        return Deleted("assistant", request.assistant_id)


def _values(request: Written, names: list[str]) -> dict[str, Any]:
    return {COLUMNS.get(name, name): FIELDS[name](request) for name in names}
