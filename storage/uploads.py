"""Uploads in the database: files that come in parts, each of which is a blob."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import ids, tables
from storage.errors import NotFound, UploadEnded, WrongSize
from storage.file_tables import UploadStatus
from storage.files import NewBlob, new_file
from storage.lookup import by_id
from storage.repository import Repository, gets, reads, reads_all, writes
from storage.rows import Blob, File, Upload, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

LIFETIME = 3600
"""Seconds for which an upload is open."""

_UPLOADS = table(tables.Upload)
_BLOBS = table(tables.Blob)
_ONE = sa.select(_UPLOADS).where(_UPLOADS.c.project_id == project(), _UPLOADS.c.id == param("id"))

GET = Statement(_ONE, Upload)
LOCK = Statement(_ONE.with_for_update(), Upload)
PARTS = Statement(
    sa.select(_BLOBS).where(
        _BLOBS.c.project_id == project(), _BLOBS.c.upload_id == param("upload_id")
    ),
    Blob,
)
DELETE_PARTS: Statement[Any] = Statement(
    sa.delete(_BLOBS).where(
        _BLOBS.c.project_id == project(), _BLOBS.c.upload_id == param("upload_id")
    )
)
TO_FILE: Statement[Any] = Statement(
    sa.update(_BLOBS)
    .where(_BLOBS.c.project_id == project(), _BLOBS.c.id == param("id"))
    .values(
        file_id=param("file_id", _BLOBS.c.file_id),
        upload_id=None,
        place=param("place", _BLOBS.c.place),
    )
)
OVERDUE: Statement[Any] = Statement(
    sa.select(_UPLOADS.c.project_id, _UPLOADS.c.id)
    .where(
        sa.text("status = 'pending'"), _UPLOADS.c.expires_at <= param("now", _UPLOADS.c.expires_at)
    )
    .order_by(_UPLOADS.c.expires_at)
    .limit(param("limit", sa.column("", sa.Integer())))
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was stored."""

    id: str
    created_at: int
    upload_id: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An upload, and the file that it has become."""

    upload: Upload
    file: File | None = None

    @property
    def id(self) -> str:
        """The upload's id."""
        return self.upload.id


@dataclass(frozen=True, slots=True)
class Ended:
    """An upload that has ended, and the keys of the blobs that nothing names any more."""

    shown: Shown
    leftover: list[str]


class Uploads(Repository):
    """Uploads of a project."""

    @writes
    def create(self, tx: Transaction, values: Mapping[str, Any]) -> Shown:
        """Inserts an upload of these attributes and returns it."""
        now = int(tx.now())
        upload = Upload(
            id=ids.new_id(ids.UPLOAD),
            project_id=tx.project,
            created_at=now,
            status=UploadStatus.pending,
            expires_at=now + LIFETIME,
            **values,
        )
        tx.insert(upload)
        return Shown(upload)

    @gets
    def check_pending(self, tx: Transaction, upload_id: str) -> None:
        """Raises NotFound, or UploadEnded, if an upload takes no part."""
        _check_pending(tx, by_id(tx, GET, "upload", upload_id))

    @writes
    def add_part(self, tx: Transaction, upload_id: str, blob: NewBlob) -> Part:
        """Inserts a part, whose id is its blob's key. Raises NotFound, UploadEnded."""
        _check_pending(tx, by_id(tx, LOCK, "upload", upload_id))
        now = int(tx.now())
        tx.insert(
            Blob(
                id=blob.key,
                project_id=tx.project,
                created_at=now,
                bytes=blob.bytes,
                upload_id=upload_id,
            )
        )
        return Part(blob.key, now, upload_id)

    @reads
    def parts(self, tx: Transaction, upload_id: str, part_ids: Sequence[str]) -> Sequence[Blob]:
        """Returns parts of a pending upload that has no others to come, in the order of their ids.

        Raises NotFound (the upload, a part), UploadEnded, WrongSize.
        """
        return _chosen(tx, by_id(tx, GET, "upload", upload_id), part_ids)

    @writes
    def complete(self, tx: Transaction, upload_id: str, part_ids: Sequence[str]) -> Ended:
        """Makes a file of parts, in the order of their ids; raises what `parts` does."""
        upload = by_id(tx, LOCK, "upload", upload_id)
        chosen = _chosen(tx, upload, part_ids)
        leftover = {blob.id for blob in tx.all(PARTS, upload_id=upload_id)} - {*part_ids}
        values = {
            "filename": upload.filename,
            "purpose": upload.purpose,
            "expires_after": upload.expires_after,
        }
        # It is as old as its upload, as on the hosted API.
        file = new_file(tx, values, upload.bytes, upload.created_at)
        tx.insert(file)
        tx.many(
            TO_FILE,
            [
                {"id": blob.id, "file_id": file.id, "place": place}
                for place, blob in enumerate(chosen)
            ],
        )
        tx.run(DELETE_PARTS, upload_id=upload_id)
        upload = tx.update(upload, status=UploadStatus.completed, file_id=file.id)
        return Ended(Shown(upload, file), sorted(leftover))

    @writes
    def cancel(self, tx: Transaction, upload_id: str) -> Ended:
        """Ends a pending upload without a file. Raises NotFound, UploadEnded."""
        upload = by_id(tx, LOCK, "upload", upload_id)
        _check_pending(tx, upload)
        return _end(tx, upload, UploadStatus.cancelled)

    @writes
    def expire(self, tx: Transaction, upload_id: str) -> Sequence[str]:
        """Ends an overdue upload, unless it has ended; returns the keys of its blobs."""
        upload = by_id(tx, LOCK, "upload", upload_id)
        if upload.status != UploadStatus.pending:
            return []
        return _end(tx, upload, UploadStatus.expired).leftover

    @reads_all
    def overdue(self, tx: Transaction, limit: int = 100) -> Sequence[tuple[str, str]]:
        """Returns the projects and ids of uploads that are pending though they have expired."""
        return [
            (project_id, id) for project_id, id in tx.all(OVERDUE, now=int(tx.now()), limit=limit)
        ]


def _check_pending(tx: Transaction, upload: Upload) -> None:
    if upload.status != UploadStatus.pending:
        raise UploadEnded(upload.id, upload.status)
    if upload.expires_at <= tx.now():
        raise UploadEnded(upload.id, UploadStatus.expired)


def _chosen(tx: Transaction, upload: Upload, part_ids: Sequence[str]) -> Sequence[Blob]:
    _check_pending(tx, upload)
    known = {blob.id: blob for blob in tx.all(PARTS, upload_id=upload.id)}
    for id in part_ids:
        if id not in known:
            raise NotFound("part", id)
    chosen = [known[id] for id in part_ids]
    if (size := sum(blob.bytes for blob in chosen)) != upload.bytes:
        raise WrongSize(upload.bytes, size)
    return chosen


def _end(tx: Transaction, upload: Upload, status: UploadStatus) -> Ended:
    leftover = [blob.id for blob in tx.all(PARTS, upload_id=upload.id)]
    tx.run(DELETE_PARTS, upload_id=upload.id)
    return Ended(Shown(tx.update(upload, status=status)), leftover)
