"""PostgreSQL knows of ten times as many words how common they are."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

STATISTICS = "ALTER TABLE chunk_words ALTER COLUMN words SET STATISTICS {}"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # For the next ANALYZE: one in here would hold the locks of all migrations for its seconds.
        op.execute(STATISTICS.format(1000))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(STATISTICS.format(-1))
