"""Typed clients of all services, and short ways to what most tests begin with."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from assistants.v1 import (
    assistants_pb2,
    assistants_pb2_grpc,
    common_pb2,
    events_pb2,
    files_pb2,
    files_pb2_grpc,
    messages_pb2,
    messages_pb2_grpc,
    models_pb2_grpc,
    run_objects_pb2,
    runs_pb2,
    runs_pb2_grpc,
    threads_pb2,
    threads_pb2_grpc,
    uploads_pb2_grpc,
    vector_store_files_pb2_grpc,
    vector_stores_pb2_grpc,
)

RunEvent = events_pb2.RunEvent
Run = run_objects_pb2.Run

SECONDS = 60
"""How long any call may take."""


class Stubs:
    """Every service of the server at the other end of a channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.models = models_pb2_grpc.ModelsServiceStub(channel)
        self.assistants = assistants_pb2_grpc.AssistantsServiceStub(channel)
        self.threads = threads_pb2_grpc.ThreadsServiceStub(channel)
        self.messages = messages_pb2_grpc.MessagesServiceStub(channel)
        self.files = files_pb2_grpc.FilesServiceStub(channel)
        self.uploads = uploads_pb2_grpc.UploadsServiceStub(channel)
        self.runs = runs_pb2_grpc.RunsServiceStub(channel)
        self.vector_stores = vector_stores_pb2_grpc.VectorStoresServiceStub(channel)
        self.vector_store_files = vector_store_files_pb2_grpc.VectorStoreFilesServiceStub(channel)

    def assistant(self, model: str = "any", **fields: Any) -> assistants_pb2.Assistant:
        """Creates an assistant."""
        request = assistants_pb2.CreateAssistantRequest(model=model, **fields)
        created: assistants_pb2.Assistant = self.assistants.CreateAssistant(request)
        return created

    def thread(self, *texts: str) -> threads_pb2.Thread:
        """Creates a thread with these messages of the user."""
        request = threads_pb2.CreateThreadRequest(messages=map(user, texts))
        created: threads_pb2.Thread = self.threads.CreateThread(request)
        return created

    def upload(self, filename: str, data: bytes) -> str:
        """Uploads a small file for assistants; returns its id."""
        given: Any = {"filename": filename, "purpose": "assistants", "bytes": len(data)}
        messages = [
            files_pb2.UploadFileRequest(**given),
            files_pb2.UploadFileRequest(data=data),
        ]
        return str(self.files.UploadFile(iter(messages)).id)

    def get_run(self, run: Run) -> Run:
        """Reads a run again."""
        request = runs_pb2.GetRunRequest(thread_id=run.thread_id, run_id=run.id)
        found: Run = self.runs.GetRun(request)
        return found

    def texts(self, thread_id: str) -> list[tuple[str, str]]:
        """Roles and texts of a thread's messages, oldest first."""
        request = messages_pb2.ListMessagesRequest(thread_id=thread_id, order="asc")
        return [
            (
                messages_pb2.Message.Role.Name(message.role),
                "".join(part.text.value for part in message.content),
            )
            for message in self.messages.ListMessages(request).data
        ]


def user(text: str) -> messages_pb2.NewMessage:
    """A message of the user, its content typed."""
    part = messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value=text))
    return messages_pb2.NewMessage(role="user", parts=[part])


def function(name: str) -> common_pb2.Tool:
    """A function without parameters, as a tool."""
    return common_pb2.Tool(type="function", function=common_pb2.FunctionDefinition(name=name))


def whole(events: Iterable[RunEvent]) -> list[RunEvent]:
    """Reads a stream to its end, which must be `done`; numbers must increase strictly."""
    read = list(events)
    numbers = [event.sequence_number for event in read]
    assert all(a < b for a, b in itertools.pairwise(numbers)), numbers
    assert [event.event for event in read if event.event in ("done", "error")] == ["done"]
    assert read[-1].WhichOneof("data") == "done"
    return read


def names(events: Sequence[RunEvent]) -> list[str]:
    """The events' names, deltas that follow each other shown as one."""
    found = [event.event for event in events]
    return [name for at, name in enumerate(found) if at == 0 or found[at - 1] != name]


def last_run(events: Sequence[RunEvent]) -> Run:
    """The run as the last event showed it that did."""
    return next(event.run for event in reversed(events) if event.HasField("run"))
