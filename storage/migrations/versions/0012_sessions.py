"""Threads know which session of the code interpreter is theirs, and which server has it."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = ("session_id", "session_server")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("threads", sa.Column(name, sa.String()))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("threads", name)
