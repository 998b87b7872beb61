"""Files, uploads, vector stores, and what search looks through."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

POSITION = sa.String(26).with_variant(sa.String(26, collation="C"), "postgresql")
OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EXPIRES = sa.text("expires_at IS NOT NULL")
PENDING = sa.text("status = 'pending'")
IN_PROGRESS = sa.text("status = 'in_progress'")

WORDS_SQLITE = """
CREATE VIRTUAL TABLE chunk_words USING fts5(
    store, body, content='', tokenize='porter unicode61 remove_diacritics 2'
)
"""
WORDS_POSTGRESQL = (
    "CREATE TABLE chunk_words (id BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
    "CREATE INDEX chunk_words_by_word ON chunk_words USING gin (words)",
)


def _common() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    ]


def _position() -> sa.Column[Any]:
    return sa.Column("position", POSITION, nullable=False)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _big(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _owner(name: str, key: str, *, nullable: bool) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), sa.ForeignKey(key, ondelete="CASCADE"), nullable=nullable)


def _counts() -> list[sa.Column[Any]]:
    names = ("in_progress", "completed", "failed", "cancelled")
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _partial(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    _files()
    _vector_stores()
    _segments()


def _files() -> None:
    op.create_table(
        "files",
        *_common(),
        _position(),
        _text("filename"),
        sa.Column("purpose", sa.String(), nullable=False),
        _big("bytes"),
        sa.Column("expires_at", sa.BigInteger()),
    )
    op.create_index("files_by_position", "files", ["project_id", "position"], unique=True)
    op.create_index("files_by_purpose", "files", ["project_id", "purpose", "position"])
    _partial("expiring_files", "files", ["expires_at"], EXPIRES)
    op.create_table(
        "uploads",
        *_common(),
        _text("filename"),
        sa.Column("purpose", sa.String(), nullable=False),
        _text("mime_type"),
        _big("bytes"),
        sa.Column("status", sa.String(), nullable=False),
        _big("expires_at"),
        sa.Column("expires_after", DOCUMENT),
        sa.Column("file_id", sa.String()),
    )
    _partial("pending_uploads", "uploads", ["expires_at"], PENDING)
    op.create_table(
        "blobs",
        *_common(),
        _big("bytes"),
        _owner("file_id", "files.id", nullable=True),
        _owner("upload_id", "uploads.id", nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
    )
    op.create_index("blobs_of_file", "blobs", ["file_id", "place"])
    op.create_index("blobs_of_upload", "blobs", ["upload_id"])


def _vector_stores() -> None:
    op.create_table(
        "vector_stores",
        *_common(),
        _position(),
        sa.Column("name", sa.String()),
        sa.Column("description", sa.String()),
        sa.Column("metadata", OBJECT, nullable=False),
        _big("last_active_at"),
        sa.Column("expires_after", DOCUMENT),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("expired", sa.Boolean(), nullable=False),
        sa.Column("embedder", sa.String()),
        _big("usage_bytes"),
        *_counts(),
        sa.Column("of_thread", sa.Boolean(), nullable=False),
    )
    op.create_index(
        "vector_stores_by_position", "vector_stores", ["project_id", "position"], unique=True
    )
    open_ones = sa.text("expires_at IS NOT NULL AND NOT expired")
    _partial("expiring_vector_stores", "vector_stores", ["expires_at"], open_ones)
    op.create_table(
        "vector_store_batches",
        *_common(),
        _owner("vector_store_id", "vector_stores.id", nullable=False),
        sa.Column("is_cancelled", sa.Boolean(), nullable=False),
        *_counts(),
    )
    op.create_index("batches_of_vector_store", "vector_store_batches", ["vector_store_id"])
    op.create_table(
        "vector_store_files",
        *_common(),
        _owner("vector_store_id", "vector_stores.id", nullable=False),
        _owner("file_id", "files.id", nullable=False),
        sa.Column("batch_id", sa.String()),
        _position(),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(53)),
        sa.Column("queued_at", sa.Float(53), nullable=False),
        sa.Column("last_error", DOCUMENT),
        sa.Column("attributes", OBJECT, nullable=False),
        sa.Column("chunking_strategy", sa.JSON(), nullable=False),
        _big("usage_bytes"),
        sa.Column("segment", sa.BigInteger()),
    )
    for name, columns, unique in (
        ("vector_store_files_by_file", ["vector_store_id", "file_id"], True),
        ("vector_store_files_by_position", ["vector_store_id", "position"], True),
        ("vector_store_files_by_batch", ["batch_id", "position"], False),
        ("entries_of_file", ["file_id", "vector_store_id"], False),
        ("entries_by_segment", ["segment"], True),
        ("segments_of_vector_store", ["vector_store_id", "segment"], False),
    ):
        op.create_index(name, "vector_store_files", columns, unique=unique)
    _partial("entries_in_progress", "vector_store_files", ["queued_at"], IN_PROGRESS)
    op.create_table(
        "resource_uses",
        sa.Column("resource_id", sa.String(), primary_key=True),
        sa.Column("owner_id", sa.String(), primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
    )
    op.create_index("resource_uses_by_owner", "resource_uses", ["owner_id"])


def _segments() -> None:
    op.create_table(
        "segments",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("vector_store_id", sa.String(), nullable=False),
        sa.Column("embedder", sa.String(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        _big("bytes"),
        sa.Column("touched_at", sa.Float(53), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("segments_by_time", "segments", ["touched_at"])
    op.create_table(
        "chunks",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        _text("text"),
    )
    op.create_table(
        "chunk_vectors",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
        _big("segment"),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
    )
    op.create_index("chunk_vectors_by_segment", "chunk_vectors", ["segment", "id"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(WORDS_SQLITE)
    else:
        for statement in WORDS_POSTGRESQL:
            op.execute(statement)
        # Vectors do not get smaller by being compressed.
        op.execute("ALTER TABLE chunk_vectors ALTER COLUMN packed SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table in (
        *("chunk_words", "chunk_vectors", "chunks", "segments"),
        *("resource_uses", "vector_store_files", "vector_store_batches", "vector_stores"),
        *("blobs", "uploads", "files"),
    ):
        op.drop_table(table)
