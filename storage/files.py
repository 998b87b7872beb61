"""Files in the database. Their bytes are elsewhere: rows name the blobs that have them.

From the second on in which a file expires, it is as if it were deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import clock, file_uses, ids, pages, tables
from storage.dialects import in_list
from storage.errors import NoSuchFile, NotFound
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.repository import Repository, gets, reads, reads_all, writes
from storage.rows import Blob, File, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

_FILES = table(tables.File)
_BLOBS = table(tables.Blob)

# Read once: by a time that goes on meanwhile, PostgreSQL would search no index.
_NOW = sa.select(clock.now()).scalar_subquery()
_STAYS = clock.is_ahead(_FILES.c.expires_at, _NOW)
_OF_PROJECT = _FILES.c.project_id == project()
_ONE = sa.select(_FILES).where(_OF_PROJECT, _FILES.c.id == param("id"), _STAYS)

GET = Statement(_ONE, File)
LOCK = Statement(
    sa.select(_FILES).where(_OF_PROJECT, _FILES.c.id == param("id")).with_for_update(), File
)
LIST = pages.List(File, ids.FILE, _OF_PROJECT, _STAYS)
LIST_OF_PURPOSE = pages.List(
    File, ids.FILE, _OF_PROJECT, _STAYS, _FILES.c.purpose == param("purpose")
)
BLOBS = Statement(
    sa.select(_BLOBS)
    .where(_BLOBS.c.project_id == project(), _BLOBS.c.file_id == param("file_id"))
    .order_by(_BLOBS.c.file_id, _BLOBS.c.place),
    Blob,
)
DELETE: Statement[Any] = Statement(sa.delete(_FILES).where(_OF_PROJECT, _FILES.c.id == param("id")))
EXPIRED: Statement[Any] = Statement(
    sa.select(_FILES.c.project_id, _FILES.c.id)
    .where(
        _FILES.c.expires_at.is_not(None),
        # A whole number: compared with a fraction, PostgreSQL would search no index.
        _FILES.c.expires_at <= param("now", _FILES.c.expires_at),
    )
    .order_by(_FILES.c.expires_at)
    .limit(param("limit", sa.column("", sa.Integer())))
)
KNOWN_BLOBS: Statement[Any] = Statement(sa.select(_BLOBS.c.id).where(in_list(_BLOBS.c.id, "keys")))


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob that is in the blob store, and that no row names yet."""

    key: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Content:
    """A file, and its blobs in their order."""

    file: File
    blobs: list[Blob]


class Files(Repository):
    """Files of a project."""

    @writes
    def create(self, tx: Transaction, values: Mapping[str, Any], blob: NewBlob) -> File:
        """Inserts a file of these attributes, whose bytes are those of a blob, and returns it."""
        file = new_file(tx, values, blob.bytes, int(tx.now()))
        tx.insert(file)
        tx.insert(
            Blob(
                id=blob.key,
                project_id=tx.project,
                created_at=file.created_at,
                bytes=blob.bytes,
                file_id=file.id,
            )
        )
        return file

    @gets
    def get(self, tx: Transaction, file_id: str) -> File:
        """Returns a file. Raises NoSuchFile."""
        return _the(tx, GET, file_id)

    @reads
    def content(self, tx: Transaction, file_id: str) -> Content:
        """Returns a file and its blobs. Raises NoSuchFile."""
        return Content(_the(tx, GET, file_id), tx.all(BLOBS, file_id=file_id))

    @reads
    def list(self, tx: Transaction, page: PageRequest, purpose: str | None = None) -> Page[File]:
        """Returns a page of the project's files, or of those of a purpose. Raises InvalidCursor."""
        if purpose is None:
            return LIST.page(tx, page)
        return LIST_OF_PURPOSE.page(tx, page, purpose=purpose)

    @writes
    def delete(self, tx: Transaction, file_id: str) -> Sequence[str]:
        """Deletes a file and returns the keys of its blobs. Raises NoSuchFile.

        It leaves all that names it, but for messages and steps.
        """
        _the(tx, GET, file_id)
        return _delete(tx, file_id)

    @writes
    def expire(self, tx: Transaction, file_id: str) -> Sequence[str]:
        """Deletes a file that has expired, unless it is gone; returns the keys of its blobs."""
        try:
            return _delete(tx, file_id)
        except NoSuchFile:
            return []

    @reads_all
    def expired(self, tx: Transaction, limit: int = 1000) -> Sequence[tuple[str, str]]:
        """Returns the projects and ids of files that have expired, those first that did first."""
        return [
            (project_id, id) for project_id, id in tx.all(EXPIRED, now=int(tx.now()), limit=limit)
        ]

    @reads_all
    def unknown_blobs(self, tx: Transaction, keys: Sequence[str]) -> Sequence[str]:
        """Returns those keys of blobs that no row names."""
        known = {key for (key,) in tx.all(KNOWN_BLOBS, keys=[*keys])}
        return [key for key in keys if key not in known]


def new_file(tx: Transaction, values: Mapping[str, Any], size: int, created_at: int) -> File:
    """Returns a file of the transaction's project that is not inserted yet."""
    position = ids.new_position()
    expires_after = values["expires_after"]
    return File(
        id=ids.make_id(ids.FILE, position),
        project_id=tx.project,
        position=position,
        created_at=created_at,
        filename=values["filename"],
        purpose=values["purpose"],
        bytes=size,
        expires_at=None if expires_after is None else created_at + expires_after["seconds"],
    )


def _the(tx: Transaction, statement: Statement[File], file_id: str) -> File:
    try:
        return by_id(tx, statement, "file", file_id)
    except NotFound:
        raise NoSuchFile(file_id) from None


def _delete(tx: Transaction, file_id: str) -> Sequence[str]:
    # Locked first: whoever names it meanwhile waits, and then finds nothing.
    _the(tx, LOCK, file_id)
    keys = [blob.id for blob in tx.all(BLOBS, file_id=file_id)]
    file_uses.leave(tx, file_id)
    tx.run(DELETE, id=file_id)
    return keys
