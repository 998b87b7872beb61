"""Projects have what is counted for their quotas, and their unended runs an index."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UNENDED = sa.text("expires_at IS NOT NULL")
INDEX = "unended_runs_by_project"


def upgrade() -> None:
    op.add_column("projects", sa.Column("messages", sa.BigInteger))
    op.add_column("projects", sa.Column("runs_free_at", sa.Float(53)))
    op.add_column("projects", sa.Column("tokens_free_at", sa.Float(53)))
    op.create_index(INDEX, "runs", ["project_id"], sqlite_where=UNENDED, postgresql_where=UNENDED)


def downgrade() -> None:
    op.drop_index(INDEX, "runs")
    for name in ("tokens_free_at", "runs_free_at", "messages"):
        op.drop_column("projects", name)
