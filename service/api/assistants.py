"""AssistantsService: unpacks and checks requests, and hands them to storage."""

from typing import Any

import grpc
from assistants.v1 import assistants_pb2

from service.project import PROJECT
from service.types import assistants, paging, requests
from service.types.answers import Deleted
from storage import Storage
from storage.pages import Page
from storage.rows import Assistant

Context = grpc.aio.ServicerContext[Any, Any]


class AssistantsServicer:
    """The methods of AssistantsService."""

    def __init__(self, storage: Storage) -> None:
        """Works on `storage`."""
        self._storage = storage

    async def CreateAssistant(
        self, request: assistants_pb2.CreateAssistantRequest, context: Context
    ) -> Assistant:
        """Creates an assistant."""
        values = requests.create(request, assistants.FIELDS)
        return await self._storage.assistants.create(PROJECT, values)

    async def ListAssistants(
        self, request: assistants_pb2.ListAssistantsRequest, context: Context
    ) -> Page[Assistant]:
        """Returns a page of assistants."""
        return await self._storage.assistants.list(PROJECT, paging.parse(request))

    async def GetAssistant(
        self, request: assistants_pb2.GetAssistantRequest, context: Context
    ) -> Assistant:
        """Returns an assistant."""
        return await self._storage.assistants.get(PROJECT, request.assistant_id)

    async def ModifyAssistant(
        self, request: assistants_pb2.ModifyAssistantRequest, context: Context
    ) -> Assistant:
        """Replaces the fields that are given."""
        changes = requests.modify(request, assistants.FIELDS)
        return await self._storage.assistants.modify(PROJECT, request.assistant_id, changes)

    async def DeleteAssistant(
        self, request: assistants_pb2.DeleteAssistantRequest, context: Context
    ) -> Deleted:
        """Deletes an assistant."""
        await self._storage.assistants.delete(PROJECT, request.assistant_id)
        return Deleted("assistant", request.assistant_id)
