"""MessagesService: unpacks and checks requests, and hands them to storage."""

from assistants.v1 import messages_pb2

from service.api.entries import check_files
from service.calls import Caller
from service.runner.engine import Engine
from service.settings import WhenActive
from service.types import checks, messages, paging, requests, when_active
from service.types.answers import Deleted
from storage import Storage
from storage.pages import Page
from storage.rows import Message


class MessagesServicer:
    """The methods of MessagesService."""

    def __init__(self, storage: Storage, engine: Engine, when_active: WhenActive) -> None:
        """Works on `storage`; `engine` knows which messages are being written.

        `when_active` is what happens to a message whose thread has an active run, unless it says.
        """
        self._storage = storage
        self._engine = engine
        self._when_active = when_active

    async def CreateMessage(
        self, request: messages_pb2.CreateMessageRequest, caller: Caller
    ) -> Message:
        """Adds a message to the end of a thread."""
        new = messages.parse("", request)
        queue = when_active.queues(request, self._when_active)
        await check_files(self._storage, caller.project, [new])
        return await self._storage.messages.create(
            caller.project, request.thread_id, new, queue=queue
        )

    async def ListMessages(
        self, request: messages_pb2.ListMessagesRequest, caller: Caller
    ) -> Page[Message]:
        """Returns a page of a thread's messages."""
        run_id = checks.text("run_id", request.run_id, 512) or None
        page = paging.parse(request)
        await self._engine.settled(request.thread_id)
        return await self._storage.messages.list(caller.project, request.thread_id, page, run_id)

    async def GetMessage(self, request: messages_pb2.GetMessageRequest, caller: Caller) -> Message:
        """Returns a message."""
        await self._engine.settled(request.message_id)
        return await self._storage.messages.get(
            caller.project, request.thread_id, request.message_id
        )

    async def ModifyMessage(
        self, request: messages_pb2.ModifyMessageRequest, caller: Caller
    ) -> Message:
        """Replaces a message's metadata."""
        changes = requests.modify(request, messages.MODIFIABLE)
        await self._engine.settled(request.message_id)
        return await self._storage.messages.modify(
            caller.project, request.thread_id, request.message_id, changes
        )

    async def DeleteMessage(
        self, request: messages_pb2.DeleteMessageRequest, caller: Caller
    ) -> Deleted:
        """Deletes a message."""
        await self._engine.settled(request.message_id)
        await self._storage.messages.delete(caller.project, request.thread_id, request.message_id)
        return Deleted("thread.message", request.message_id)
