"""Vector stores say how long the vectors are that an index of neighbours is for."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vector_stores", sa.Column("neighbours", sa.Integer()))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # It is made by this version, where there is pgvector: see storage/pgvector.py.
        op.execute("DROP TABLE IF EXISTS chunk_embeddings")
    op.drop_column("vector_stores", "neighbours")
