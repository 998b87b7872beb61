"""Runs name the span of the call that queued them; those from before name none."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("traceparent", sa.String))


def downgrade() -> None:
    op.drop_column("runs", "traceparent")
