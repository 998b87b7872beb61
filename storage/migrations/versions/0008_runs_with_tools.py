"""Runs know what their tools work on, and what their creator wants to see of steps."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = ("tool_resources", "include")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("runs", sa.Column(name, sa.JSON(none_as_null=True)))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("runs", name)
