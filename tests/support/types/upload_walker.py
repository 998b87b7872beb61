"""Reads OpenAI's JSON of files and uploads out of messages, as tests/support/types/walker.py."""

from collections.abc import Callable
from typing import Any

from assistants.v1 import files_pb2, uploads_pb2
from google.protobuf.message import Message

from tests.support.types.walker_values import Json


def file(value: files_pb2.File) -> Json:
    """Returns an OpenAIFile."""
    shown: Json = {
        "id": value.id,
        "object": "file",
        "bytes": value.bytes,
        "created_at": value.created_at,
        "filename": value.filename,
        "purpose": value.purpose,
        "status": value.status,
    }
    return shown | {"expires_at": value.expires_at} if value.HasField("expires_at") else shown


def upload(value: uploads_pb2.Upload) -> Json:
    """Returns an Upload."""
    shown: Json = {
        "id": value.id,
        "object": "upload",
        "created_at": value.created_at,
        "filename": value.filename,
        "bytes": value.bytes,
        "purpose": value.purpose,
        "status": value.status,
        "expires_at": value.expires_at,
    }
    return shown | {"file": file(value.file)} if value.HasField("file") else shown


def part(value: uploads_pb2.UploadPart) -> Json:
    """Returns an UploadPart."""
    return {
        "id": value.id,
        "object": "upload.part",
        "created_at": value.created_at,
        "upload_id": value.upload_id,
    }


OBJECTS: dict[type[Message], Callable[[Any], Json]] = {
    files_pb2.File: file,
    uploads_pb2.Upload: upload,
    uploads_pb2.UploadPart: part,
}
PAGES: dict[type[Message], Callable[[Any], Json]] = {files_pb2.ListFilesResponse: file}
DELETIONS: dict[type[Message], str] = {files_pb2.DeleteFileResponse: "file"}
