"""Files over typed gRPC: streams that say first what comes."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from assistants.v1 import files_pb2, uploads_pb2

from tests.support.grpc.stubs import Stubs
from tests.support.stack import Stack
from tests.support.waiting import until

CONTENT = os.urandom(3_000_000)


def upload(content: bytes, piece: int = 2**18, **first: Any) -> Iterator[Any]:
    given: dict[str, Any] = {"filename": "ü.txt", "purpose": "assistants", "bytes": len(content)}
    yield files_pb2.UploadFileRequest(**given | first)
    for start in range(0, len(content), piece):
        yield files_pb2.UploadFileRequest(data=content[start : start + piece])


def download(stubs: Stubs, file_id: str, **asked: Any) -> tuple[Any, bytes]:
    request = files_pb2.DownloadFileRequest(file_id=file_id, **asked)
    first, *others = stubs.files.DownloadFile(request)
    assert not [message for message in others if message.HasField("file")]
    return first.file, b"".join(message.data for message in (first, *others))


def refused(call: Any, code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert isinstance(error.value, grpc.Call)
    assert error.value.code() == code
    return str(error.value.details())


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_a_file(stubs: Stubs, content: bytes) -> None:
    file = stubs.files.UploadFile(upload(content))
    assert (file.filename, file.bytes, file.status) == ("ü.txt", len(content), "processed")
    assert stubs.files.GetFile(files_pb2.GetFileRequest(file_id=file.id)) == file
    assert download(stubs, file.id) == (file, content)
    listed = stubs.files.ListFiles(files_pb2.ListFilesRequest(limit=1))
    assert [*listed.data] == [file]
    deleted = stubs.files.DeleteFile(files_pb2.DeleteFileRequest(file_id=file.id))
    assert (deleted.id, deleted.deleted) == (file.id, True)
    text = refused(lambda: download(stubs, file.id), grpc.StatusCode.NOT_FOUND)
    assert text == f"No such File object: {file.id}"


def test_ranges(stubs: Stubs) -> None:
    file = stubs.files.UploadFile(upload(CONTENT))
    for asked, expected in (
        ({"offset": 5}, CONTENT[5:]),
        ({"offset": 5, "length": 7}, CONTENT[5:12]),
        ({"offset": len(CONTENT)}, b""),
        ({"length": 0}, b""),
        ({"length": 2**40}, CONTENT),
    ):
        assert download(stubs, file.id, **asked) == (file, expected)
    for wrong in ({"offset": -1}, {"offset": len(CONTENT) + 1}, {"length": -1}):
        refused(lambda given=wrong: download(stubs, file.id, **given), INVALID)


INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_announced_must_come(stubs: Stubs) -> None:
    def send(*messages: Any) -> Any:
        return lambda: stubs.files.UploadFile(iter(messages))

    first, *rest = upload(b"hello")
    again = files_pb2.UploadFileRequest(filename="b", data=b"hello")
    assert refused(send(first), INVALID) == "Expected 5 bytes, but got 0."
    assert refused(send(first, *rest, *rest), INVALID) == "Expected 5 bytes, but got more."
    assert "`data` alone" in refused(send(first, again), INVALID)
    assert refused(send(), INVALID)
    purpose = files_pb2.UploadFileRequest(filename="a", bytes=1)
    assert refused(send(purpose), INVALID) == "'purpose' is a required property"
    large = files_pb2.UploadFileRequest(filename="a", purpose="vision", bytes=2**40)
    text = refused(send(large), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert text == "File is too large. Maximum size is 536870912 bytes."
    negative = files_pb2.UploadFileRequest(filename="a", purpose="vision", bytes=-1)
    assert "bytes" in refused(send(negative), INVALID)


async def test_streams_that_are_cancelled(stubs: Stubs, server: Stack) -> None:
    """Half a file is nothing, and a reader that goes away keeps nobody else from reading."""
    incoming = server.directory / "data" / "files" / "incoming"
    stay = threading.Event()

    def half() -> Iterator[Any]:
        yield files_pb2.UploadFileRequest(filename="a", purpose="vision", bytes=2 * len(CONTENT))
        for start in range(0, len(CONTENT), 2**18):
            yield files_pb2.UploadFileRequest(data=CONTENT[start : start + 2**18])
        stay.wait(60)

    call = stubs.files.UploadFile.future(half())
    await until(lambda: any(incoming.iterdir()))
    call.cancel()
    stay.set()
    await until(lambda: not any(incoming.iterdir()))
    file = stubs.files.UploadFile(upload(CONTENT))
    request = files_pb2.DownloadFileRequest(file_id=file.id)
    reading = [stubs.files.DownloadFile(request) for _ in range(20)]
    for each in reading:
        assert next(each).file == file
        each.cancel()
    assert download(stubs, file.id) == (file, CONTENT)


def test_a_file_in_its_first_message(stubs: Stubs) -> None:
    [message] = upload(b"", bytes=5, data=b"hello")
    assert download(stubs, stubs.files.UploadFile(iter([message])).id)[1] == b"hello"


def test_an_upload(stubs: Stubs) -> None:
    after = files_pb2.FileExpiresAfter(anchor="created_at", seconds=3600)
    made = stubs.uploads.CreateUpload(
        uploads_pb2.CreateUploadRequest(
            filename="a", purpose="vision", bytes=6, mime_type="a/b", expires_after=after
        )
    )
    assert (made.status, made.HasField("file")) == ("pending", False)
    parts = [
        stubs.uploads.AddUploadPart(
            iter(
                [
                    uploads_pb2.AddUploadPartRequest(upload_id=made.id, bytes=len(data)),
                    uploads_pb2.AddUploadPartRequest(data=data),
                ]
            )
        )
        for data in (b"abc", b"def")
    ]
    assert {part.upload_id for part in parts} == {made.id}
    request = uploads_pb2.CompleteUploadRequest(
        upload_id=made.id, part_ids=[parts[1].id, parts[0].id]
    )
    done = stubs.uploads.CompleteUpload(request)
    assert (done.status, done.file.expires_at) == ("completed", made.created_at + 3600)
    assert download(stubs, done.file.id)[1] == b"defabc"
    text = refused(
        lambda: stubs.uploads.CancelUpload(uploads_pb2.CancelUploadRequest(upload_id=made.id)),
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert text == f"Upload {made.id} is completed."
