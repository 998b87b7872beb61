"""The bytes of files: the port, which a local folder and S3 implement.

A blob is written once, read any number of times, and deleted. Its key is made by the server, never
by a caller, and is not used twice; a blob that no row of the database names is swept.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from service.errors import FilesUnavailable

PIECE = 256 * 2**10
"""Bytes that a reader yields at a time, about."""

_KEY = re.compile(r"[A-Za-z0-9_]{1,128}")


class BlobError(Exception):
    """Base of what blob stores raise on purpose; the message is one line."""


class BlobNotFound(BlobError):
    """There is no blob of that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no blob {key}")
        self.key = key


class BlobsUnavailable(BlobError, FilesUnavailable):
    """The store does not answer, refuses us, or is full."""


class BlobWriter(Protocol):
    """A blob that is being written, by one task."""

    @property
    def size(self) -> int:
        """The bytes written so far."""

    async def write(self, data: bytes) -> None:
        """Appends bytes; returns when more may come. Raises BlobsUnavailable."""

    async def accept(self) -> None:
        """Makes the blob visible, whole and on the disk when this returns.

        Nothing more can be written. Raises BlobsUnavailable: then there is no blob.
        """


class BlobStore(Protocol):
    """Blobs by their keys. Any number of tasks and servers may use it at the same time."""

    def create(self, key: str) -> AbstractAsyncContextManager[BlobWriter]:
        """Writes a new blob. If the context is left before `accept`, nothing remains of it."""

    async def size(self, key: str) -> int:
        """Returns the bytes of a blob. Raises BlobNotFound, BlobsUnavailable."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` up to and without `end`, cut off at the blob's end.

        Raises BlobNotFound before the first piece, BlobsUnavailable at any time.
        """

    async def delete(self, key: str) -> None:
        """Deletes a blob; one that is not there is no error. Raises BlobsUnavailable."""

    def keys(self, before: float) -> AsyncIterator[str]:
        """Yields the keys of all blobs that were accepted before a unix time, in no order.

        Blobs that are accepted or deleted meanwhile may be left out. Raises BlobsUnavailable.
        """

    async def sweep(self, before: float) -> int:
        """Deletes what is left of blobs that were not accepted, last written to before a unix time.

        Returns how many there were. A store that cleans up by itself has none.
        """

    def path(self, key: str) -> Path | None:
        """Returns where a blob is a local file that can be opened; None in other stores."""

    async def close(self) -> None:
        """Lets go of threads and connections, once what was begun has ended."""


def checked(key: str) -> str:
    """Returns a key. ValueError for one that a file system might take for something else."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a blob")
    return key
