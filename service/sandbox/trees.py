"""Folder trees that hostile code has made: walked, owned and removed without following anything.

Nothing here recurses, builds long paths or follows a link: a tree may be thousands of levels deep,
and it may change while it is read.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

MAX_DEPTH = 32
"""Levels of folders that are looked into."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooDeep(OSError):
    """A tree has more levels than MAX_DEPTH."""


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of a tree: a file, a folder, a link, a FIFO, a device."""

    folder: int
    """A descriptor of the folder that it is in, open until the next entry is taken."""

    path: tuple[str, ...]
    """Names from the top; undecodable bytes are surrogates."""

    stat: os.stat_result

    @property
    def name(self) -> str:
        """Its name in its folder."""
        return self.path[-1]


def walk(top: int) -> Iterator[Node]:
    """Yields all entries below an open folder, a folder before what is in it.

    What vanishes meanwhile is left out. Raises TooDeep, and OSError for a folder that cannot be
    read. Takes `top` over and closes it.
    """
    path: tuple[str, ...] = ()
    stack = [(top, os.scandir(top), path)]
    try:
        while stack:
            folder, entries, path = stack[-1]
            entry = next(entries, None)
            if entry is None:
                entries.close()
                os.close(folder)
                stack.pop()
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            here = (*path, entry.name)
            yield Node(folder, here, status)
            if stat.S_ISDIR(status.st_mode):
                if len(here) > MAX_DEPTH:
                    raise TooDeep
                with suppress(FileNotFoundError, NotADirectoryError):
                    inner = os.open(entry.name, DIRECTORY, dir_fd=folder)
                    stack.append((inner, os.scandir(inner), here))
    finally:
        for folder, entries, _ in stack:
            entries.close()
            os.close(folder)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree takes."""

    bytes: int
    entries: int


def measure(path: str, most: int) -> Usage | None:
    """Returns what a tree takes on the disk.

    None where it cannot be told: more than `most` entries, too deep, unreadable. An absent tree
    takes nothing.
    """
    total = entries = 0
    try:
        for node in walk(os.open(path, DIRECTORY)):
            total += node.stat.st_blocks * 512
            entries += 1
            if entries > most:
                return None
    except FileNotFoundError:
        pass
    except OSError:
        return None
    return Usage(total, entries)


def trim(path: str, most_bytes: int, most_entries: int) -> None:
    """Removes entries of a folder, the last changed first, until the rest is within the limits.

    Raises OSError.
    """
    top = os.open(path, DIRECTORY)
    try:
        entries = []
        for name in os.listdir(top):
            status = os.stat(name, dir_fd=top, follow_symlinks=False)
            usage: Usage | None = Usage(status.st_blocks * 512, 1)
            if stat.S_ISDIR(status.st_mode):
                inner = measure(os.path.join(path, name), most_entries)
                usage = inner and Usage(inner.bytes, 1 + inner.entries)
            entries.append((status.st_ctime_ns, name, usage))
        total = number = 0
        for _, name, usage in sorted(entries):
            if (
                usage
                and total + usage.bytes <= most_bytes
                and number + usage.entries <= most_entries
            ):
                total += usage.bytes
                number += usage.entries
            else:
                remove(top, name)
    finally:
        os.close(top)


def own(path: str, uid: int) -> None:
    """Gives a tree to a user, with a group of the same number. Needs CAP_CHOWN; links stay links.

    Nothing may run on the tree meanwhile. Raises OSError.
    """
    os.chown(path, uid, uid, follow_symlinks=False)
    for node in walk(os.open(path, DIRECTORY)):
        os.chown(node.name, uid, uid, dir_fd=node.folder, follow_symlinks=False)


def remove(parent: int, name: str) -> None:
    """Removes an entry of an open folder, with all that is below it, however deep.

    An absent one is removed already. Raises OSError.
    """
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # What Linux and POSIX say of a folder.
        pass
    top = _open_writable(parent, name)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(top: int) -> None:
    """Removes all below a folder: what is two levels down is moved up, so that nothing is deep."""
    unique = secrets.token_hex(8)
    moved = 0
    while names := os.listdir(top):
        for name in names:
            if _unlinked(name, top):
                continue
            folder = _open_writable(top, name)
            try:
                for inner in os.listdir(folder):
                    if not _unlinked(inner, folder):
                        # It must be writable to be moved, as its `..` changes.
                        os.close(_open_writable(folder, inner))
                        moved += 1
                        os.rename(inner, f"{unique}-{moved}", src_dir_fd=folder, dst_dir_fd=top)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)


def _unlinked(name: str, folder: int) -> bool:
    """Removes an entry that is no folder; False for a folder."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(status.st_mode):
        return False
    os.unlink(name, dir_fd=folder)
    return True


def _open_writable(parent: int, name: str) -> int:
    """Opens a folder, after taking back what was withdrawn from its owner."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        with suppress(OSError):
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
