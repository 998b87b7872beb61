"""Indexes that bound what is read by queries that come again and again.

Messages have the position that orders them in what models read, and an index by it. Runs have the
indexes that the reconciler and the release of waiting runs go by.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

POSITION = sa.String(26).with_variant(sa.String(26, collation="C"), "postgresql")
UNENDED = "expires_at IS NOT NULL"
READ_UNTIL = """
    UPDATE messages SET context_position = COALESCE(
        (SELECT runs.context_until FROM runs WHERE runs.id = messages.run_id), position
    )
"""


def upgrade() -> None:
    op.add_column("messages", sa.Column("context_position", POSITION))
    op.execute(READ_UNTIL)
    # On SQLite this makes the table anew. No other has rows that would be deleted with it.
    with op.batch_alter_table("messages") as messages:
        messages.alter_column("context_position", existing_type=POSITION, nullable=False)
    op.create_index(
        "messages_by_context", "messages", ["thread_id", "context_position", "position"]
    )
    op.drop_index("active_runs", "runs")
    _index_runs("active_runs", ["status", "waiting", "queued_at"], UNENDED)
    _index_runs("runs_by_expiry", ["waiting", "expires_at"], UNENDED)
    _index_runs("waiting_runs", ["thread_id", "position"], "waiting")


def downgrade() -> None:
    for name in ("waiting_runs", "runs_by_expiry", "active_runs"):
        op.drop_index(name, "runs")
    _index_runs("active_runs", ["status", "expires_at"], UNENDED)
    op.drop_index("messages_by_context", "messages")
    op.drop_column("messages", "context_position")


def _index_runs(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "runs", columns, sqlite_where=condition, postgresql_where=condition)
