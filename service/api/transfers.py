"""Bytes of files on their way: what comes from a caller, and what goes to one.

Each transport has a way of its own to say what comes: gRPC in the first message of a stream, REST
in the fields of a form, which may stand behind the bytes.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from service.errors import ApiError, Kind
from service.files.blobs import BlobNotFound, BlobStore, BlobsUnavailable
from service.files.blobs.contents import Part, read
from storage.errors import NoSuchFile
from storage.files import Content


class Incoming(Protocol):
    """Bytes that a caller sends, and the message that says what they are."""

    @property
    def request(self) -> Any:
        """The message; of a form, complete when all pieces have come."""

    @property
    def announced(self) -> bool:
        """Whether the message comes ahead of the bytes."""

    def pieces(self, maximum: int) -> AsyncIterator[bytes]:
        """Yields the bytes as they come; ends only when all of them, and nothing else, has come.

        Raises ApiError, also for more than `maximum` bytes.
        """


class Announced:
    """A stream of gRPC messages, the first of which says how many bytes come."""

    announced = True

    def __init__(self, first: Any, rest: AsyncIterator[Any]) -> None:
        """Takes the first message, and the others."""
        self.request = first
        self._rest = rest

    @property
    def upload_id(self) -> str | None:
        """The upload of a part, for the log."""
        return getattr(self.request, "upload_id", None)

    async def pieces(self, maximum: int) -> AsyncIterator[bytes]:
        """Yields the bytes; see Incoming."""
        expected, got = self.request.bytes, len(self.request.data)
        if expected < 0:
            raise ApiError(Kind.invalid_value, "Invalid 'bytes': it is negative.", "bytes")
        if expected > maximum:
            raise too_large(maximum, "data")
        if self.request.data:
            yield self.request.data
        async for message in self._rest:
            if message is None or {each.name for each, _ in message.ListFields()} - {"data"}:
                text = "Invalid stream: behind its first message, there is `data` alone."
                raise ApiError(Kind.malformed, text)
            got += len(message.data)
            if got > expected:
                break
            yield message.data
        if got != expected:
            more = "more" if got > expected else str(got)
            raise ApiError(Kind.malformed, f"Expected {expected} bytes, but got {more}.")


class Download:
    """A file, and its bytes to be read."""

    def __init__(self, blobs: BlobStore, content: Content) -> None:
        """Reads from `blobs`."""
        self.file = content.file
        self._blobs = blobs
        self._parts: Sequence[Part] = [Part(blob.id, blob.bytes) for blob in content.blobs]

    @property
    def id(self) -> str:
        """The file's id."""
        return self.file.id

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` up to and without `end`.

        Raises NoSuchFile if the file was deleted meanwhile, FilesUnavailable.
        """
        left = end - start
        try:
            async for piece in read(self._blobs, self._parts, start, end):
                left -= len(piece)
                yield piece
        except BlobNotFound:
            raise NoSuchFile(self.file.id) from None
        if left:
            raise BlobsUnavailable(f"{self.file.id} has {left} bytes less than it had")


def too_large(maximum: int, param: str) -> ApiError:
    """Returns the refusal of bytes that are too many."""
    return ApiError(Kind.too_large, f"File is too large. Maximum size is {maximum} bytes.", param)
