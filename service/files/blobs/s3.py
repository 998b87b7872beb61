"""Blobs as objects of an S3-compatible store.

An object becomes visible when its upload is completed, and only then. What a crash leaves of an
upload is invisible, and goes by the bucket's own rule for incomplete multipart uploads. Region,
keys and endpoint are read from the usual variables (AWS_REGION, AWS_ENDPOINT_URL, …).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from service.files.blobs import PIECE, BlobNotFound, BlobsUnavailable, BlobWriter, checked

PART = 8 * 2**20
"""Bytes of each part of an upload. S3 takes 10,000 of them."""

PARTS_AT_ONCE = 2
"""Parts of one blob that are on their way at the same time."""

REQUEST_TIME = "120s"
CONNECT_TIME = "10s"

RETRIES = 5
RETRY_SECONDS = 30


class S3Blobs:
    """The blobs below one prefix of a bucket."""

    def __init__(self, url: str) -> None:
        """Opens nothing yet. `url` is `s3://bucket` or `s3://bucket/prefix`."""
        self._store = S3Store.from_url(
            url,
            client_options={
                "timeout": REQUEST_TIME,
                "connect_timeout": CONNECT_TIME,
                # An endpoint in the local network may well have no certificate: its URL says so.
                "allow_http": True,
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            },
        )

    @contextlib.asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[BlobWriter]:
        """Writes a new blob; see the port."""
        writer = _Writer(self._store, checked(key))
        try:
            yield writer
        finally:
            await writer.discard()

    async def size(self, key: str) -> int:
        """Returns the bytes of a blob."""
        with _translated(key):
            return (await obstore.head_async(self._store, checked(key)))["size"]

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes of a range."""
        size = await self.size(key)
        stop = size if end is None else min(end, size)
        if start >= stop:
            return
        with _translated(key):
            found = await obstore.get_async(self._store, key, options={"range": (start, stop)})
            async for piece in found.stream(min_chunk_size=PIECE):
                yield bytes(piece)

    async def delete(self, key: str) -> None:
        """Deletes a blob."""
        with contextlib.suppress(BlobNotFound), _translated(key):
            await obstore.delete_async(self._store, checked(key))

    async def keys(self, before: float) -> AsyncIterator[str]:
        """Yields the keys of blobs accepted before a unix time."""
        with _translated(""):
            async for page in obstore.list(self._store):
                for item in page:
                    if item["last_modified"].timestamp() < before:
                        yield item["path"].rpartition("/")[2]

    async def sweep(self, before: float) -> int:
        """Does nothing: what is left is invisible, and the bucket's own rule deletes it."""
        return 0

    def path(self, key: str) -> None:
        """Returns None: there are no local files."""

    async def close(self) -> None:
        """Does nothing: connections close by themselves."""


class _Writer:
    """A multipart upload, fed from a queue of one piece."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._upload: asyncio.Task[None] | None = None
        self._abandoned = False
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Hands over bytes, as soon as the store takes them."""
        if not data:
            return
        self.size += len(data)
        await self._hand_over(data)

    async def accept(self) -> None:
        """Completes the upload."""
        await self._hand_over(None)
        assert self._upload is not None
        with _translated(self._key):
            await self._upload

    async def discard(self) -> None:
        """Aborts the upload, unless it is completed."""
        if self._upload is None:
            return
        # The source fails, for which the upload is aborted; a task that is cancelled would not.
        self._abandoned = True
        with contextlib.suppress(asyncio.QueueFull):
            self._pieces.put_nowait(None)
        await asyncio.wait([self._upload])
        # Nobody else may ask for its error.
        _ = self._upload.exception()

    async def _hand_over(self, piece: bytes | None) -> None:
        if self._upload is None:
            self._upload = asyncio.create_task(self._run(), name=f"upload {self._key}")
        handing = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait([handing, self._upload], return_when=asyncio.FIRST_COMPLETED)
        finally:
            handing.cancel()
        if self._upload.done():
            with _translated(self._key):
                self._upload.result()

    async def _run(self) -> None:
        source = self._source()
        await obstore.put_async(
            self._store,
            self._key,
            source,
            use_multipart=True,
            chunk_size=PART,
            max_concurrency=PARTS_AT_ONCE,
        )

    async def _source(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            if self._abandoned:
                break
            yield piece
        if self._abandoned:
            raise BlobsUnavailable("the upload was abandoned")


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise BlobNotFound(key) from None
    except (BaseError, OSError) as error:
        raise BlobsUnavailable(str(error).strip().partition("\n")[0]) from error
