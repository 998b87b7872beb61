"""The tables of files, uploads and vector stores, and of what search looks through.

A file that is in a vector store has an entry there. What was read out of it is a segment: chunks of
text, their words (see storage.full_text) and their vectors. A segment never changes. An entry names
its segment once that is whole; what no entry names is invisible, and swept.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from storage.columns import document, metadata, optional_document, parent, position, seconds

NUMBER = BigInteger().with_variant(Integer(), "sqlite")
"""A key that the database counts up; SQLite does so with its own integers only."""

CHUNK_BITS = 20
"""A chunk's number is its segment's, shifted by these, and its place in it."""


EXPIRES = text("expires_at IS NOT NULL AND NOT expired")
IN_PROGRESS = text("status = 'in_progress'")
"""Conditions of indexes: queries use them that say the same, to the letter."""


class EntryStatus(StrEnum):
    """How far the indexing of a file in a vector store is."""

    in_progress = "in_progress"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


class UploadStatus(StrEnum):
    """How far an upload is."""

    pending = "pending"
    completed = "completed"
    cancelled = "cancelled"
    expired = "expired"


def _big(default: int | None = None) -> Any:
    if default is None:
        return Field(sa_column=Column(BigInteger, nullable=False))
    return Field(default=default, sa_column=Column(BigInteger, nullable=False))


def _owner(key: str) -> Any:
    return Field(default=None, foreign_key=key, ondelete="CASCADE")


class File(SQLModel, table=True):
    """A file of a project; its bytes are in its blobs, one after the other."""

    __tablename__ = "files"
    __table_args__ = (
        Index("files_by_position", "project_id", "position", unique=True),
        Index("files_by_purpose", "project_id", "purpose", "position"),
        Index(
            "expiring_files",
            "expires_at",
            sqlite_where=text("expires_at IS NOT NULL"),
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    project_id: str
    position: str = position()
    created_at: int = seconds(nullable=False)
    filename: str = Field(sa_column=Column(Text, nullable=False))
    purpose: str
    bytes: int = _big()
    expires_at: int | None = seconds()


class Upload(SQLModel, table=True):
    """A file that comes in parts; each part is a blob."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index(
            "pending_uploads",
            "expires_at",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
    )

    id: str = Field(primary_key=True)
    project_id: str
    created_at: int = seconds(nullable=False)
    filename: str = Field(sa_column=Column(Text, nullable=False))
    purpose: str
    mime_type: str = Field(sa_column=Column(Text, nullable=False))
    bytes: int = _big()
    status: str
    expires_at: int = seconds(nullable=False)
    expires_after: dict[str, Any] | None = optional_document()
    """What the file gets, when it is made."""
    file_id: str | None = None


class Blob(SQLModel, table=True):
    """Bytes in the blob store; its id is its key there, or the id of an upload's part."""

    __tablename__ = "blobs"
    __table_args__ = (
        Index("blobs_of_file", "file_id", "place"),
        Index("blobs_of_upload", "upload_id"),
    )

    id: str = Field(primary_key=True)
    project_id: str
    created_at: int = seconds(nullable=False)
    bytes: int = _big()
    file_id: str | None = _owner("files.id")
    upload_id: str | None = _owner("uploads.id")
    place: int = 0
    """Where it stands among its file's."""


class VectorStore(SQLModel, table=True):
    """Files to search in. The numbers of its entries are kept with every change of one."""

    __tablename__ = "vector_stores"
    __table_args__ = (
        Index("vector_stores_by_position", "project_id", "position", unique=True),
        Index(
            "expiring_vector_stores",
            "expires_at",
            sqlite_where=EXPIRES,
            postgresql_where=EXPIRES,
        ),
    )

    id: str = Field(primary_key=True)
    project_id: str
    position: str = position()
    created_at: int = seconds(nullable=False)
    name: str | None = None
    description: str | None = None
    metadata_: dict[str, str] = metadata()
    last_active_at: int = seconds(nullable=False)
    expires_after: dict[str, Any] | None = optional_document()
    expires_at: int | None = seconds()
    expired: bool = False
    embedder: str | None = None
    """Whose vectors it has; null as long as nothing was put in."""
    usage_bytes: int = _big(0)
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    neighbours: int | None = None
    """How long its vectors are that are kept for an index of neighbours, too; null if none are."""
    of_thread: bool = False
    """Whether it was made along with a thread, and goes with the last one that names it."""


class VectorStoreBatch(SQLModel, table=True):
    """Files that were put into a vector store by one call."""

    __tablename__ = "vector_store_batches"
    __table_args__ = (Index("batches_of_vector_store", "vector_store_id"),)

    id: str = Field(primary_key=True)
    project_id: str
    vector_store_id: str = parent("vector_stores.id")
    created_at: int = seconds(nullable=False)
    is_cancelled: bool = False
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class VectorStoreFile(SQLModel, table=True):
    """A file's entry in a vector store."""

    __tablename__ = "vector_store_files"
    __table_args__ = (
        Index("vector_store_files_by_file", "vector_store_id", "file_id", unique=True),
        Index("vector_store_files_by_position", "vector_store_id", "position", unique=True),
        Index("vector_store_files_by_batch", "batch_id", "position"),
        Index("entries_of_file", "file_id", "vector_store_id"),
        Index("entries_by_segment", "segment", unique=True),
        Index("segments_of_vector_store", "vector_store_id", "segment"),
        Index(
            "entries_in_progress",
            "queued_at",
            sqlite_where=IN_PROGRESS,
            postgresql_where=IN_PROGRESS,
        ),
    )

    id: str = Field(primary_key=True)
    """Its own; callers know it by its file's."""
    project_id: str
    vector_store_id: str = parent("vector_stores.id")
    file_id: str = parent("files.id")
    batch_id: str | None = None
    position: str = position()
    created_at: int = seconds(nullable=False)
    status: str
    attempt: int = 0
    """Grows with every claim, as a run's does."""
    crashes: int = 0
    """How many of its claims were lost."""
    lease_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    queued_at: float = Field(sa_column=Column(Float(53), nullable=False))
    last_error: dict[str, str] | None = optional_document()
    attributes: dict[str, Any] = metadata("attributes")
    chunking_strategy: dict[str, Any] = document()
    usage_bytes: int = _big(0)
    segment: int | None = Field(default=None, sa_column=Column(BigInteger))
    """What search looks through; null until it is whole."""


class ResourceUse(SQLModel, table=True):
    """That an assistant or a thread names a file or a vector store in its tool resources."""

    __tablename__ = "resource_uses"
    __table_args__ = (Index("resource_uses_by_owner", "owner_id"),)

    resource_id: str = Field(primary_key=True)
    owner_id: str = Field(primary_key=True)
    project_id: str


class Segment(SQLModel, table=True):
    """What was read out of a file, once: it is written piece by piece, and then never changed."""

    __tablename__ = "segments"
    __table_args__ = (Index("segments_by_time", "touched_at"), {"sqlite_autoincrement": True})

    id: int = Field(sa_column=Column(NUMBER, primary_key=True))
    project_id: str
    vector_store_id: str
    embedder: str
    chunks: int = 0
    bytes: int = _big(0)
    """Of its chunks and vectors."""
    touched_at: float = Field(sa_column=Column(Float(53), nullable=False))
    """When it was last added to."""


class Chunk(SQLModel, table=True):
    """A stretch of a file's text. A segment's chunks overlap, and cover its text."""

    __tablename__ = "chunks"

    id: int = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))
    start: int
    """The character of the text at which it begins."""
    tokens: int
    text: str = Field(sa_column=Column(Text, nullable=False))


class ChunkVectors(SQLModel, table=True):
    """The vectors of some chunks of a segment that follow each other."""

    __tablename__ = "chunk_vectors"
    __table_args__ = (Index("chunk_vectors_by_segment", "segment", "id"),)

    id: int = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))
    """That of the first chunk."""
    segment: int = _big()
    rows: int
    packed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
