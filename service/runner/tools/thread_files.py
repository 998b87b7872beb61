"""The files of a thread's sandbox: given ones put there, written ones taken from there."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import structlog

from service.files.blobs import BlobError
from service.runner.tools.files import Files
from service.sandbox.folder import Entry, FileRefused, Folder
from storage.rows import File

log = structlog.get_logger(__name__)

DATA = "/mnt/data"
"""Where the code has its files."""

KNOWN = "files"
"""The note that says which file of the API is which file of the thread."""

WRITTEN = 20
"""Files that one call gives to the user, those that were written last. Others are kept."""

WRITTEN_BYTES = 128 * 2**20
"""Bytes that they have together: else each call could store as much as a thread may have."""

BLOCK = 4096
"""Bytes of disk that a file may take beyond its own."""

NAME = 120
"""Bytes of a given file's name in the sandbox, without its ending."""

FAILURES = (FileRefused, BlobError, OSError)
"""Why a file may not get into the sandbox, or out of it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A file of the thread, in one version."""

    id: str | None
    """The file of the API that it is, if it is one."""

    size: int
    modified: int

    def is_as(self, entry: Entry) -> bool:
        """Whether a file is still what it was."""
        return (self.size, self.modified) == (entry.size, entry.modified)


class ThreadFiles:
    """The files of one thread, for one offer, call or link. What it knows is a note beside them."""

    def __init__(self, folder: Folder, files: Files, project: str) -> None:
        """Works on `folder` and on the project's `files`."""
        self._folder = folder
        self._files = files
        self._project = project
        note = json.loads(folder.note(KNOWN) or '{"given": {}, "known": {}}')
        self._given: dict[str, str] = note["given"]
        """The paths of files that callers have given, by id."""
        self._known = {path: Known(*row) for path, row in note["known"].items()}

    async def put(self, given: Sequence[File]) -> Mapping[str, str]:
        """Puts given files where they are not yet. Returns their paths, by id.

        Each has its own name, made harmless, and its id for another one. What was given once and is
        deleted is removed; what the code has changed stays changed. Left out is what would take the
        folder beyond its limits, for which sessions are ended. Raises Unreachable.
        """
        ids = [each.id for each in given]
        for gone in self._given.keys() - set(ids):
            if await self._files.get(self._project, gone) is None:
                await self._remove(gone)
        there = {entry.path for entry in await self._entries()}
        taken = {*there, *self._given.values(), *ids}
        placed = {}
        for each in given:
            if each.id not in self._given:
                self._given[each.id] = _free(_harmless(each), taken)
                taken.add(self._given[each.id])
            path = self._given[each.id]
            if path in there or await self._put(each, path):
                placed[each.id] = f"{DATA}/{path}"
        self._write()
        return placed

    async def written(self) -> tuple[Mapping[str, str], Sequence[str]]:
        """Makes files of the API of what the code has written since this was asked last.

        Returns their ids by path, and the paths of what has not become one. Raises Unreachable.
        """
        new = [entry for entry in await self._entries() if self._is_new(entry)]
        new.sort(key=lambda entry: (entry.modified, entry.path))
        made, left, room = dict[str, str](), list[str](), WRITTEN_BYTES
        for entry in reversed(new):
            path, file_id = f"{DATA}/{entry.path}", None
            if len(made) < WRITTEN and entry.size <= room:
                file_id = await self._make(entry)
            if file_id is not None:
                made[path] = file_id
                room -= entry.size
            else:
                self._known[entry.path] = Known(None, entry.size, entry.modified)
                left.append(path)
        self._write()
        made = dict(reversed(made.items()))
        return made, left

    async def linked(self, path: str) -> str | None:
        """Returns the id of the file at an absolute path, which is made if need be.

        Raises Unreachable.
        """
        name = path.removeprefix(f"{DATA}/")
        if name == path:
            return None
        name = (await self._folder.links()).get(name, name)
        for entry in await self._entries():
            if entry.path == name:
                known = self._known.get(name)
                if known is not None and known.id is not None and known.is_as(entry):
                    kept = await self._files.get(self._project, known.id)
                    if kept is not None:
                        return kept.id
                file_id = await self._make(entry)
                self._write()
                return file_id
        return None

    async def _entries(self) -> Sequence[Entry]:
        try:
            return await self._folder.list()
        except OSError as error:
            # The code may make a tree that nobody can read.
            log.info("files of the sandbox not read", reason=str(error))
            return []

    def _is_new(self, entry: Entry) -> bool:
        names = entry.path.split("/")
        if any(name.startswith(".") or name == "__pycache__" for name in names):
            return False
        known = self._known.get(entry.path)
        return known is None or not known.is_as(entry)

    async def _put(self, given: File, path: str) -> bool:
        room = await self._folder.room()
        if given.bytes + BLOCK > room.bytes or room.entries < 2:
            log.info("file not put into the sandbox", file_id=given.id, reason="it is full")
            return False
        try:
            await self._folder.put(path, self._files.read(given))
            if path != given.id:
                await self._folder.link(given.id, path)
        except FAILURES as error:
            log.info("file not put into the sandbox", file_id=given.id, reason=str(error))
            return False
        for entry in await self._entries():
            if entry.path == path:
                self._known[path] = Known(given.id, entry.size, entry.modified)
        return True

    async def _remove(self, file_id: str) -> None:
        path = self._given.pop(file_id)
        known = self._known.get(path)
        # What the code has made of it is another file.
        for each in [file_id, *([path] if known is not None and known.id == file_id else ())]:
            self._known.pop(each, None)
            try:
                await self._folder.remove(each)
            except FAILURES as error:
                log.info("file not removed from the sandbox", path=each, reason=str(error))

    async def _make(self, entry: Entry) -> str | None:
        name = PurePosixPath(entry.path).name
        try:
            file = await self._files.write(self._project, name, self._folder.get(entry.path))
        except FAILURES as error:
            log.info("file not taken from the sandbox", path=entry.path, reason=str(error))
            return None
        self._known[entry.path] = Known(file.id, entry.size, entry.modified)
        return file.id

    def _write(self) -> None:
        known = {path: [each.id, each.size, each.modified] for path, each in self._known.items()}
        self._folder.set_note(KNOWN, json.dumps({"given": self._given, "known": known}))


def _harmless(given: File) -> str:
    """Returns a file's name without folders and without what names may not have."""
    name = re.split(r"[/\\]", given.filename)[-1]
    name = "".join(each if each.isprintable() else "_" for each in name).lstrip(".").strip()
    ending = PurePosixPath(name).suffix[:20]
    stem = name.removesuffix(ending).encode(errors="replace")[:NAME]
    return stem.decode(errors="ignore") + ending or given.id


def _free(name: str, taken: set[str]) -> str:
    stem, dot, ending = name.rpartition(".")
    for number in range(2, len(taken) + 3):
        if name not in taken:
            break
        name = f"{stem} ({number}).{ending}" if dot and stem else f"{ending} ({number})"
    return name
