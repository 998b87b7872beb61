"""AssistantsService: unpacks and checks requests, and hands them to storage."""

from assistants.v1 import assistants_pb2

from service.calls import Caller
from service.types import assistants, paging, requests
from service.types.answers import Deleted
from storage import Storage
from storage.pages import Page
from storage.rows import Assistant


class AssistantsServicer:
    """The methods of AssistantsService."""

    def __init__(self, storage: Storage) -> None:
        """Works on `storage`."""
        self._storage = storage

    async def CreateAssistant(
        self, request: assistants_pb2.CreateAssistantRequest, caller: Caller
    ) -> Assistant:
        """Creates an assistant."""
        values = requests.create(request, assistants.FIELDS)
        return await self._storage.assistants.create(caller.project, values)

    async def ListAssistants(
        self, request: assistants_pb2.ListAssistantsRequest, caller: Caller
    ) -> Page[Assistant]:
        """Returns a page of assistants."""
        return await self._storage.assistants.list(caller.project, paging.parse(request))

    async def GetAssistant(
        self, request: assistants_pb2.GetAssistantRequest, caller: Caller
    ) -> Assistant:
        """Returns an assistant."""
        return await self._storage.assistants.get(caller.project, request.assistant_id)

    async def ModifyAssistant(
        self, request: assistants_pb2.ModifyAssistantRequest, caller: Caller
    ) -> Assistant:
        """Replaces the fields that are given."""
        changes = requests.modify(request, assistants.MODIFIABLE)
        return await self._storage.assistants.modify(caller.project, request.assistant_id, changes)

    async def DeleteAssistant(
        self, request: assistants_pb2.DeleteAssistantRequest, caller: Caller
    ) -> Deleted:
        """Deletes an assistant."""
        await self._storage.assistants.delete(caller.project, request.assistant_id)
        return Deleted("assistant", request.assistant_id)
