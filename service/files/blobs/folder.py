"""Blobs as files of a local folder.

A blob is written under `incoming`, flushed to the disk, and moved to its place: there, every file
is whole, also after a crash. Blobs are spread over 256 folders by a hash of their keys.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from service.files.blobs import PIECE, BlobNotFound, BlobsUnavailable, BlobWriter, checked

BUFFER = 2**20
"""Bytes that are gathered for one write."""

FLUSH = 64 * 2**20
"""Bytes after which a file that is being written is flushed: no upload fills the page cache."""

THREADS = 16
"""Files that are written or read at the same instant; more wait a moment."""

T = TypeVar("T")


class FolderBlobs:
    """The blobs below one folder. Several servers may share it."""

    def __init__(self, root: Path) -> None:
        """Makes the folder when it is first written to."""
        self._root = root
        self._incoming = root / "incoming"
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    @contextlib.asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[BlobWriter]:
        """Writes a new blob; see the port."""
        writer = _Writer(self._threads, self._incoming / checked(key), self._place(key))
        try:
            await writer.open()
            yield writer
        finally:
            await asyncio.shield(writer.discard())

    async def size(self, key: str) -> int:
        """Returns the bytes of a blob."""
        return await self._in_thread(lambda: self._place(key).stat().st_size, key)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes of a range."""
        file = await self._in_thread(lambda: self._place(key).open("rb", buffering=0), key)
        with file:
            descriptor, at = file.fileno(), start
            while end is None or at < end:
                count = PIECE if end is None else min(PIECE, end - at)
                job = self._threads.submit(os.pread, descriptor, count, at)
                try:
                    piece = await _done(job)
                finally:
                    # The descriptor must stay ours until nobody reads from it.
                    await asyncio.shield(_settled(job))
                if not piece:
                    return
                yield piece
                at += len(piece)

    async def delete(self, key: str) -> None:
        """Deletes a blob."""
        await self._in_thread(lambda: self._place(key).unlink(missing_ok=True), key)

    async def keys(self, before: float) -> AsyncIterator[str]:
        """Yields the keys of blobs accepted before a unix time."""
        for folder in await self._in_thread(lambda: _folders(self._root)):
            for key in await self._in_thread(lambda at=folder: _older(at, before)):  # type: ignore[misc]
                yield key

    async def sweep(self, before: float) -> int:
        """Deletes leftovers last written to before a unix time."""

        def unlink() -> int:
            old = _older(self._incoming, before)
            for name in old:
                (self._incoming / name).unlink(missing_ok=True)
            return len(old)

        return await self._in_thread(unlink)

    def path(self, key: str) -> Path:
        """Returns where a blob is, or would be."""
        return self._place(key)

    async def close(self) -> None:
        """Ends the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    def _place(self, key: str) -> Path:
        spread = hashlib.blake2b(checked(key).encode(), digest_size=1).hexdigest()
        return self._root / spread / key

    async def _in_thread(self, work: Callable[[], T], key: str = "") -> T:
        try:
            return await _done(self._threads.submit(work))
        except BlobsUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise BlobNotFound(key) from None
            raise


class _Writer:
    """A file under `incoming` that becomes a blob."""

    def __init__(self, threads: ThreadPoolExecutor, incoming: Path, place: Path) -> None:
        self._threads = threads
        self._incoming = incoming
        self._place = place
        self._descriptor: int | None = None
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._unflushed = 0
        self._job: Future[None] | None = None
        self.size = 0

    async def open(self) -> None:
        await self._in_thread(self._open)

    async def write(self, data: bytes) -> None:
        """Appends bytes, in portions."""
        self._pieces.append(data)
        self._buffered += len(data)
        self.size += len(data)
        if self._buffered >= BUFFER:
            await self._in_thread(self._flush_buffer)

    async def accept(self) -> None:
        """Moves the file to its place."""
        await self._in_thread(self._accept)

    async def discard(self) -> None:
        """Deletes the file, unless it has been accepted."""
        before = self._job
        self._job = self._threads.submit(self._discard, before)
        await _done(self._job)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        self._job = self._threads.submit(work)
        await _done(self._job)

    def _open(self) -> None:
        _make_folder(self._incoming.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._incoming, flags, 0o600)

    def _flush_buffer(self) -> None:
        assert self._descriptor is not None
        rest = memoryview(b"".join(self._pieces))
        self._unflushed += len(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._pieces, self._buffered = [], 0
        if self._unflushed >= FLUSH:
            os.fdatasync(self._descriptor)
            self._unflushed = 0

    def _accept(self) -> None:
        self._flush_buffer()
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        _make_folder(self._place.parent)
        self._incoming.rename(self._place)
        _flush_folder(self._place.parent)
        os.close(self._descriptor)
        self._descriptor = None

    def _discard(self, before: Future[None] | None) -> None:
        if before is not None:
            wait([before])
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._incoming.unlink(missing_ok=True)


async def _done(job: "Future[T]") -> T:
    """Returns what a thread returns. Raises BlobsUnavailable for the errors of the system."""
    try:
        return await asyncio.wrap_future(job)
    except OSError as error:
        raise BlobsUnavailable(error.strerror or str(error)) from error


async def _settled(job: "Future[bytes]") -> None:
    if not job.done():
        await asyncio.to_thread(wait, [job])


def _make_folder(path: Path) -> None:
    """Makes a folder that is still there after a crash."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _flush_folder(path.parent)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(root: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return [each for each in root.iterdir() if each.is_dir() and each.name != "incoming"]
    return []


def _older(folder: Path, before: float) -> list[str]:
    return [entry.name for entry in _entries(folder) if _changed(entry) < before]


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _changed(entry: "os.DirEntry[str]") -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return float("inf")
