"""What a model server gets back with its own turns has a column of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run_steps", sa.Column("replay", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("run_steps", "replay")
