"""ThreadsService: unpacks and checks requests, and hands them to storage."""

from assistants.v1 import threads_pb2

from service.api.entries import check_files
from service.calls import Caller
from service.runner.engine import Engine
from service.types import checks, messages, metadata, paging, requests, threads, tool_resources
from service.types.answers import Deleted
from storage import Storage
from storage.pages import Page
from storage.rows import Thread


class ThreadsServicer:
    """The methods of ThreadsService."""

    def __init__(self, storage: Storage, engine: Engine) -> None:
        """Works on `storage`; `engine` publishes the end of runs that end with their thread."""
        self._storage = storage
        self._engine = engine

    async def CreateThread(
        self, request: threads_pb2.CreateThreadRequest, caller: Caller
    ) -> Thread:
        """Creates a thread."""
        pairs = metadata.parse("metadata", request.metadata)
        resources = tool_resources.parse("tool_resources", request.tool_resources)
        first = await messages.parse_all("messages", request.messages)
        await check_files(self._storage, caller.project, first)
        return await self._storage.threads.create(caller.project, pairs, resources, first)

    async def GetThread(self, request: threads_pb2.GetThreadRequest, caller: Caller) -> Thread:
        """Returns a thread."""
        return await self._storage.threads.get(caller.project, request.thread_id)

    async def ListThreads(
        self, request: threads_pb2.ListThreadsRequest, caller: Caller
    ) -> Page[Thread]:
        """Returns a page of threads."""
        pairs = metadata.parse_filter("metadata", request.metadata)
        return await self._storage.threads.list(caller.project, paging.parse(request), pairs)

    async def CopyThread(self, request: threads_pb2.CopyThreadRequest, caller: Caller) -> Thread:
        """Branches a thread."""
        up_to = checks.text("up_to_message_id", request.up_to_message_id, 512) or None
        if up_to is not None:
            await self._engine.settled(up_to)
        return await self._storage.threads.copy(caller.project, request.thread_id, up_to)

    async def ModifyThread(
        self, request: threads_pb2.ModifyThreadRequest, caller: Caller
    ) -> Thread:
        """Replaces the fields that are given."""
        changes = requests.modify(request, threads.MODIFIABLE)
        return await self._storage.threads.modify(caller.project, request.thread_id, changes)

    async def DeleteThread(
        self, request: threads_pb2.DeleteThreadRequest, caller: Caller
    ) -> Deleted:
        """Deletes a thread, and cancels what runs in it."""
        for ended in await self._storage.threads.delete(caller.project, request.thread_id):
            await self._engine.announce(ended)
        self._engine.forget(request.thread_id)
        return Deleted("thread", request.thread_id)
