"""MessagesService: unpacks and checks requests, and hands them to storage."""

from typing import Any

import grpc
from assistants.v1 import messages_pb2, messages_pb2_grpc

from service import content, fields, masks, objects, validate
from service.project import PROJECT
from service.runner.engine import Engine
from service.settings import WhenActive
from storage import Storage

Context = grpc.aio.ServicerContext[Any, Any]


class MessagesServicer(messages_pb2_grpc.MessagesServiceServicer):
    """Messages over gRPC."""

    def __init__(self, storage: Storage, engine: Engine, when_active: WhenActive) -> None:
        """Works on `storage`; `engine` knows which messages are being written.

        `when_active` is what happens to a message whose thread has an active run, unless it says.
        """
        self._storage = storage
        self._engine = engine
        self._when_active = when_active

    async def CreateMessage(
        self, request: messages_pb2.CreateMessageRequest, context: Context
    ) -> messages_pb2.Message:
        """Adds a message to the end of a thread."""
        new = content.new_message("", request)
        queue = fields.queues(request, self._when_active)
        row = await self._storage.messages.create(PROJECT, request.thread_id, new, queue=queue)
        return objects.message(row)

    async def ListMessages(
        self, request: messages_pb2.ListMessagesRequest, context: Context
    ) -> messages_pb2.ListMessagesResponse:
        """Returns a page of a thread's messages."""
        run_id = validate.text("run_id", request.run_id, 512) or None
        page_asked = fields.page(request)
        await self._engine.settled(request.thread_id)
        page = await self._storage.messages.list(PROJECT, request.thread_id, page_asked, run_id)
        return messages_pb2.ListMessagesResponse(
            data=map(objects.message, page.data), **objects.page(page)
        )

    async def GetMessage(
        self, request: messages_pb2.GetMessageRequest, context: Context
    ) -> messages_pb2.Message:
        """Returns a message."""
        await self._engine.settled(request.message_id)
        row = await self._storage.messages.get(PROJECT, request.thread_id, request.message_id)
        return objects.message(row)

    async def ModifyMessage(
        self, request: messages_pb2.ModifyMessageRequest, context: Context
    ) -> messages_pb2.Message:
        """Replaces a message's metadata."""
        changes = {}
        if masks.to_modify(request, request.update_mask, ["metadata"]):
            changes["metadata_"] = validate.metadata("metadata", request.metadata)
        await self._engine.settled(request.message_id)
        row = await self._storage.messages.modify(
            PROJECT, request.thread_id, request.message_id, changes
        )
        return objects.message(row)

    async def DeleteMessage(
        self, request: messages_pb2.DeleteMessageRequest, context: Context
    ) -> messages_pb2.DeleteMessageResponse:
        """Deletes a message."""
        await self._engine.settled(request.message_id)
        await self._storage.messages.delete(PROJECT, request.thread_id, request.message_id)
        return messages_pb2.DeleteMessageResponse(id=request.message_id, deleted=True)
