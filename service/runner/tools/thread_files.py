"""The files of a thread's sandbox: given ones put there, written ones taken from there."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import structlog

from service.sandbox.folder import Entry, FileRefused, Folder
from storage.rows import Run

log = structlog.get_logger(__name__)

DATA = "/mnt/data"
"""Where the code has its files."""

KNOWN = "files"
"""The note that says which file of the API is which file of the thread."""

WRITTEN = 20
"""Files that one call may give to the user, those that were written last. More are kept."""

NAME = 120
"""Bytes of a given file's name in the sandbox, without its ending."""


@dataclass(frozen=True, slots=True)
class Given:
    """A file that a run's code may read."""

    id: str
    filename: str
    bytes: int


class Files(Protocol):
    """The API's files, as far as the sandbox needs them."""

    async def of_run(self, run: Run) -> Sequence[Given]:
        """Returns what thread and assistant give to the code interpreter."""

    def read(self, project: str, file_id: str) -> AsyncIterator[bytes]:
        """Yields a file's content. Raises FileNotFoundError where it is gone."""

    async def exists(self, project: str, file_id: str) -> bool:
        """Whether there is a file of this id."""

    async def write(self, project: str, filename: str, content: AsyncIterator[bytes]) -> str:
        """Makes a file of purpose `assistants_output`, and returns its id."""


@dataclass(frozen=True, slots=True)
class Known:
    """Which file of the API a file of the thread is, in this version."""

    id: str
    size: int
    modified: int
    given: bool
    """Whether a caller has given it."""


class ThreadFiles:
    """The files of one thread, for one call or link."""

    def __init__(self, folder: Folder, files: Files, project: str) -> None:
        """Works on `folder` and on the project's `files`."""
        self._folder = folder
        self._files = files
        self._project = project
        self._known = _read(folder.note(KNOWN))

    async def put(self, given: Sequence[Given]) -> Mapping[str, str]:
        """Puts given files where they are not yet. Returns their paths, by id.

        Each has its own name, made harmless, and its id for another one. What was given once and is
        deleted is removed. What the code has changed stays changed.
        """
        entries = {entry.path: entry for entry in await self._folder.list()}
        names = {known.id: path for path, known in self._known.items() if known.given}
        ids = {each.id for each in given}
        for gone in names.keys() - ids:
            if not await self._files.exists(self._project, gone):
                await self._remove(names.pop(gone), gone)
        taken = {*entries, *names.values(), *ids}
        placed = {}
        for each in given:
            path = names.get(each.id)
            if path is None or path not in entries:
                path = path or _free(_harmless(each), taken)
                taken.add(path)
                if not await self._put(each, path):
                    continue
            placed[each.id] = f"{DATA}/{path}"
        self._write()
        return placed

    async def written(self) -> tuple[Mapping[str, str], Sequence[str]]:
        """Makes files of the API of what the code has written since this was asked last.

        Returns their ids by path, and the paths of what has not become one.
        """
        new = [entry for entry in await self._folder.list() if self._is_new(entry)]
        new.sort(key=lambda entry: (entry.modified, entry.path), reverse=True)
        ids = {}
        left = [f"{DATA}/{entry.path}" for entry in new[WRITTEN:]]
        for entry in reversed(new[:WRITTEN]):
            file_id = await self._make(entry)
            if file_id is None:
                left.append(f"{DATA}/{entry.path}")
            else:
                ids[f"{DATA}/{entry.path}"] = file_id
        self._write()
        return ids, left

    async def linked(self, path: str) -> str | None:
        """Returns the id of the file at an absolute path, which is made if need be."""
        name = path.removeprefix(f"{DATA}/")
        if name == path:
            return None
        name = (await self._folder.links()).get(name, name)
        for entry in await self._folder.list():
            if entry.path == name:
                known = self._known.get(name)
                kept = known is not None and not self._is_new(entry)
                if known and kept and await self._files.exists(self._project, known.id):
                    return known.id
                file_id = await self._make(entry)
                self._write()
                return file_id
        return None

    def _is_new(self, entry: Entry) -> bool:
        names = entry.path.split("/")
        if any(name.startswith(".") or name == "__pycache__" for name in names):
            return False
        known = self._known.get(entry.path)
        return known is None or (known.size, known.modified) != (entry.size, entry.modified)

    async def _put(self, given: Given, path: str) -> bool:
        try:
            await self._folder.put(path, self._files.read(self._project, given.id))
            if path != given.id:
                await self._folder.link(given.id, path)
        except (FileRefused, OSError) as error:
            log.info("file not put into the sandbox", file_id=given.id, reason=str(error))
            return False
        [entry] = [entry for entry in await self._folder.list() if entry.path == path]
        self._known[path] = Known(given.id, entry.size, entry.modified, given=True)
        return True

    async def _remove(self, *paths: str) -> None:
        for path in paths:
            self._known.pop(path, None)
            try:
                await self._folder.remove(path)
            except (FileRefused, OSError) as error:
                log.info("file not removed from the sandbox", path=path, reason=str(error))

    async def _make(self, entry: Entry) -> str | None:
        name = PurePosixPath(entry.path).name
        try:
            file_id = await self._files.write(self._project, name, self._folder.get(entry.path))
        except (FileRefused, OSError) as error:
            log.info("file not taken from the sandbox", path=entry.path, reason=str(error))
            return None
        self._known[entry.path] = Known(file_id, entry.size, entry.modified, given=False)
        return file_id

    def _write(self) -> None:
        rows = {
            path: [known.id, known.size, known.modified, known.given]
            for path, known in self._known.items()
        }
        self._folder.set_note(KNOWN, json.dumps(rows))


def _read(note: str | None) -> dict[str, Known]:
    return {path: Known(*row) for path, row in json.loads(note or "{}").items()}


def _harmless(given: Given) -> str:
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
