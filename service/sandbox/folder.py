"""The files of one thread: what its code sees in /mnt/data, seen from the server.

The folder is written by hostile code, also while it is read: names are checked, no link is
followed, and only plain files with one name are read.
"""

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.sandbox import trees

CHUNK = 2**20
"""Bytes of a file that are read at once."""

TEMPORARY = ".put-"
"""How the name of a file begins that is being written."""

MAX_NAME = 255
"""Bytes of a name, as Linux has it."""


class FileRefused(Exception):
    """A path is none that a thread's file can have, or leads to no plain file."""


class FileTooLarge(FileRefused):
    """A file is larger than the thread's files may be together."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a thread."""

    path: str
    """Relative to /mnt/data, names joined by slashes."""

    size: int
    modified: int
    """Nanoseconds since 1970, as the code's clock or the code itself set it."""


class Folder:
    """The files of one thread, and notes about them. They outlive its sessions."""

    def __init__(self, path: Path, *, most_bytes: int, most_files: int) -> None:
        """Creates nothing: the engine that owns the folder does."""
        self.path = path
        self._most_bytes = most_bytes
        self._most_files = most_files

    def note(self, name: str) -> str | None:
        """Returns a note of the server's about the thread, which its code does not see."""
        try:
            return (self.path.parent / name).read_text()
        except FileNotFoundError:
            return None

    def set_note(self, name: str, text: str | None) -> None:
        """Keeps a note, whole or not at all; None removes it. The thread's folder goes with it."""
        path = self.path.parent / name
        if text is None:
            path.unlink(missing_ok=True)
            return
        temporary = path.with_name(TEMPORARY + name)
        temporary.write_text(text)
        temporary.replace(path)

    async def put(self, path: str, content: bytes | AsyncIterable[bytes]) -> None:
        """Writes a file, in place of whatever has its path; folders on the way are made.

        The file appears whole or not at all. Raises FileRefused, FileTooLarge, OSError.
        """
        names = split(path)
        folder = await asyncio.to_thread(self._open, names[:-1], create=True)
        temporary = TEMPORARY + secrets.token_hex(8)
        try:
            file = await asyncio.to_thread(_create, folder, temporary)
            try:
                size = 0
                async for chunk in _chunks(content):
                    size += len(chunk)
                    if size > self._most_bytes:
                        raise FileTooLarge(f"{path} is larger than {self._most_bytes} bytes")
                    await asyncio.to_thread(_write, file, chunk)
                await asyncio.to_thread(_place, folder, temporary, names[-1])
            finally:
                os.close(file)
        finally:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            os.close(folder)

    async def link(self, name: str, target: str) -> None:
        """Gives a file at the top another name, in place of whatever has it.

        Raises FileRefused, OSError.
        """
        [name], [target] = split(name), split(target)

        def work() -> None:
            folder = self._open([])
            temporary = TEMPORARY + secrets.token_hex(8)
            try:
                os.symlink(target, temporary, dir_fd=folder)
                _place(folder, temporary, name)
            finally:
                os.close(folder)

        await asyncio.to_thread(work)

    async def links(self) -> dict[str, str]:
        """Returns the names that `link` has given, with the files that have them."""

        def work() -> dict[str, str]:
            found = {}
            for node in trees.walk(self._open_top()):
                if len(node.path) == 1 and stat.S_ISLNK(node.stat.st_mode) and nameable(node.name):
                    target = os.readlink(node.name, dir_fd=node.folder)
                    if "/" not in target and nameable(target):
                        found[node.name] = target
            return found

        return await asyncio.to_thread(work)

    async def get(self, path: str) -> AsyncIterator[bytes]:
        """Yields a file's content in chunks, as long as the file was when it was opened.

        Raises FileRefused at the first chunk when there is no plain file of that path.
        """
        file, size = await asyncio.to_thread(self._open_file, split(path))
        if size > self._most_bytes:
            os.close(file)
            raise FileTooLarge(f"{path} is larger than {self._most_bytes} bytes")
        try:
            while size > 0 and (chunk := await asyncio.to_thread(os.read, file, min(size, CHUNK))):
                size -= len(chunk)
                yield chunk
        finally:
            os.close(file)

    async def list(self) -> Sequence[Entry]:
        """Returns the plain files, sorted by path.

        Left out are links, files with several names, what has a name that no text can hold, and all
        beyond the number of files that a thread may have. Raises OSError for a tree that cannot be
        read, or is too deep.
        """
        return await asyncio.to_thread(self._list)

    async def room(self) -> trees.Usage:
        """Returns what may be added; nothing where it cannot be told what there is."""
        usage = await asyncio.to_thread(trees.measure, os.fspath(self.path), self._most_files)
        if usage is None:
            return trees.Usage(0, 0)
        return trees.Usage(self._most_bytes - usage.bytes, self._most_files - usage.entries)

    async def remove(self, path: str) -> None:
        """Removes a file, or a folder with all in it. Raises FileRefused, OSError."""
        names = split(path)

        def work() -> None:
            folder = self._open(names[:-1])
            try:
                trees.remove(folder, names[-1])
            finally:
                os.close(folder)

        await asyncio.to_thread(work)

    def _open(self, names: Sequence[str], *, create: bool = False) -> int:
        """Opens a folder below the top, component by component."""
        folder = self._open_top()
        for name in names:
            try:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=folder)
                        owner = os.fstat(folder)
                        os.chown(
                            name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False
                        )
                inner = os.open(name, trees.DIRECTORY, dir_fd=folder)
            except OSError as error:
                raise FileRefused(f"{name}: {error.strerror}") from error
            finally:
                os.close(folder)
            folder = inner
        return folder

    def _open_top(self) -> int:
        try:
            return os.open(self.path, trees.DIRECTORY)
        except PermissionError:  # The code owns the folder, and may have closed it.
            os.chmod(self.path, 0o700, follow_symlinks=False)
            return os.open(self.path, trees.DIRECTORY)

    def _open_file(self, names: Sequence[str]) -> tuple[int, int]:
        folder = self._open(names[:-1])
        try:
            # Without O_NONBLOCK, a FIFO would wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(names[-1], flags, dir_fd=folder)
        except OSError as error:
            raise FileRefused(f"{names[-1]}: {error.strerror}") from error
        finally:
            os.close(folder)
        status = os.fstat(file)
        if not plain(status):
            os.close(file)
            raise FileRefused(f"{names[-1]}: not a plain file")
        return file, status.st_size

    def _list(self) -> Sequence[Entry]:
        entries = []
        for node in trees.walk(self._open_top()):
            if node.name.startswith(TEMPORARY):
                continue
            if plain(node.stat) and all(map(nameable, node.path)):
                path = "/".join(node.path)
                entries.append(Entry(path, node.stat.st_size, node.stat.st_mtime_ns))
                if len(entries) >= self._most_files:
                    break
        return sorted(entries, key=lambda entry: entry.path)


def plain(status: os.stat_result) -> bool:
    """Whether this is a file with one name: a second one may be outside of the folder."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def nameable(name: str) -> bool:
    """Whether a name can be shown and typed: no control characters, no undecodable bytes."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_NAME and name not in ("", ".", "..") and name.isprintable()


def split(path: str) -> list[str]:
    """Returns the names of a relative path. Raises FileRefused for what leaves the folder."""
    names = path.split("/")
    if len(names) > trees.MAX_DEPTH or not all(map(nameable, names)):
        raise FileRefused(f"{path!r} is no path of a file")
    return names


def _create(folder: int, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=folder)
    owner = os.fstat(folder)
    if owner.st_uid != os.geteuid():
        os.fchown(file, owner.st_uid, owner.st_gid)
    return file


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _place(folder: int, temporary: str, name: str) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        trees.remove(folder, name)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


async def _chunks(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    async for chunk in content:
        yield chunk
