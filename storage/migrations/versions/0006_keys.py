"""Projects have keys. Each project of what is there is one of its name, and `default` is one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

POSITION = sa.String(26).with_variant(sa.String(26, collation="C"), "postgresql")
NOW = {
    "postgresql": "CAST(floor(extract(epoch from clock_timestamp())) AS BIGINT)",
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER)",
}
PROJECTS = """
    INSERT INTO projects (id, name, created_at)
    SELECT project_id, project_id, MIN(created_at) FROM (
        SELECT project_id, created_at FROM assistants
        UNION ALL SELECT project_id, created_at FROM threads
        UNION ALL SELECT 'default', {now}
    ) AS owned GROUP BY project_id
"""


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("api_keys_by_position", "api_keys", ["project_id", "position"], unique=True)
    op.create_table(
        "versions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.execute(PROJECTS.format(now=NOW[op.get_bind().dialect.name]))
    op.execute("INSERT INTO versions (id, number) VALUES ('api_keys', 0)")


def downgrade() -> None:
    for name in ("versions", "api_keys", "projects"):
        op.drop_table(name)
