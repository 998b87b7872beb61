"""The first schema: assistants, threads, messages, runs and their steps."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

POSITION = sa.String(26).with_variant(sa.String(26, collation="C"), "postgresql")
METADATA = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ACTIVE = sa.text(
    "status IN ('queued', 'in_progress', 'requires_action', 'cancelling') AND NOT waiting"
)
UNENDED = sa.text("expires_at IS NOT NULL")


def _common() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("metadata", METADATA, nullable=False),
    ]


def _parent(name: str, key: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), sa.ForeignKey(key, ondelete="CASCADE"), nullable=False)


def _times(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger()) for name in names]


def upgrade() -> None:
    op.create_table(
        "assistants",
        *_common(),
        sa.Column("name", sa.String()),
        sa.Column("description", sa.String()),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("instructions", sa.Text()),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("tool_resources", sa.JSON(), nullable=False),
        sa.Column("temperature", sa.Float()),
        sa.Column("top_p", sa.Float()),
        sa.Column("response_format", sa.JSON(), nullable=False),
        sa.Column("reasoning_effort", sa.String()),
    )
    op.create_index("assistants_by_position", "assistants", ["project_id", "position"], unique=True)
    op.create_table(
        "threads",
        *_common(),
        sa.Column("tool_resources", sa.JSON(), nullable=False),
        sa.Column("last_position", POSITION),
    )
    op.create_index("threads_by_position", "threads", ["project_id", "position"], unique=True)
    op.create_table(
        "messages",
        *_common(),
        _parent("thread_id", "threads.id"),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("attachments", sa.JSON(), nullable=False),
        sa.Column("assistant_id", sa.String()),
        sa.Column("run_id", sa.String()),
        *_times("completed_at", "incomplete_at"),
        sa.Column("incomplete_reason", sa.String()),
    )
    op.create_index("messages_by_position", "messages", ["thread_id", "position"], unique=True)
    op.create_index("messages_by_run", "messages", ["run_id", "position"])
    op.create_table(
        "runs",
        *_common(),
        _parent("thread_id", "threads.id"),
        sa.Column("assistant_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(53)),
        sa.Column("queued_at", sa.Float(53), nullable=False),
        sa.Column("context_until", POSITION, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("temperature", sa.Float()),
        sa.Column("top_p", sa.Float()),
        sa.Column("max_prompt_tokens", sa.Integer()),
        sa.Column("max_completion_tokens", sa.Integer()),
        sa.Column("truncation_strategy", sa.JSON(), nullable=False),
        sa.Column("tool_choice", sa.JSON(), nullable=False),
        sa.Column("parallel_tool_calls", sa.Boolean(), nullable=False),
        sa.Column("response_format", sa.JSON(), nullable=False),
        sa.Column("reasoning_effort", sa.String()),
        sa.Column("last_error", sa.JSON()),
        sa.Column("incomplete_reason", sa.String()),
        sa.Column("usage", sa.JSON()),
        *_times("expires_at", "started_at", "cancelled_at", "failed_at", "completed_at"),
    )
    op.create_index("runs_by_position", "runs", ["thread_id", "position"], unique=True)
    op.create_index(
        "one_active_run_per_thread",
        "runs",
        ["thread_id"],
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    )
    op.create_index(
        "active_runs",
        "runs",
        ["status", "expires_at"],
        sqlite_where=UNENDED,
        postgresql_where=UNENDED,
    )
    op.create_table(
        "run_steps",
        *_common(),
        sa.Column("thread_id", sa.String(), nullable=False),
        _parent("run_id", "runs.id"),
        sa.Column("assistant_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("step_details", sa.JSON(), nullable=False),
        sa.Column("last_error", sa.JSON()),
        sa.Column("usage", sa.JSON()),
        *_times("expired_at", "cancelled_at", "failed_at", "completed_at"),
    )
    op.create_index("run_steps_by_position", "run_steps", ["run_id", "position"], unique=True)


def downgrade() -> None:
    for table in ("run_steps", "runs", "messages", "threads", "assistants"):
        op.drop_table(table)
