"""What nobody chose is null, or has no key: stored defaults go."""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BATCH = 500
NULLABLE: dict[str, sa.types.TypeEngine[Any]] = {
    "tool_choice": sa.JSON(none_as_null=True),
    "parallel_tool_calls": sa.Boolean(),
}
"""Columns of runs that were not null."""


def _table(name: str, **more: sa.types.TypeEngine[Any]) -> sa.TableClause:
    columns: dict[str, sa.types.TypeEngine[Any]] = {
        "id": sa.String(),
        "tools": sa.JSON(),
        "temperature": sa.Float(),
        "top_p": sa.Float(),
        **more,
    }
    return sa.table(name, *(sa.column(each, kind) for each, kind in columns.items()))


ASSISTANTS = _table("assistants")
RUNS = _table("runs", **NULLABLE)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _replace_columns()
    else:
        for name in NULLABLE:
            op.alter_column("runs", name, nullable=True)
    for table in (ASSISTANTS, RUNS):
        for column in (table.c.temperature, table.c.top_p):
            op.execute(sa.update(table).where(column == 1).values({column: sa.null()}))
        _rewrite(table, _without_default)
    chosen = sa.cast(RUNS.c.tool_choice, sa.Text())
    op.execute(sa.update(RUNS).where(chosen == '"auto"').values(tool_choice=sa.null()))
    op.execute(
        sa.update(RUNS)
        .where(RUNS.c.parallel_tool_calls == sa.true())
        .values(parallel_tool_calls=sa.null())
    )


def downgrade() -> None:
    for table in (ASSISTANTS, RUNS):
        for column in (table.c.temperature, table.c.top_p):
            op.execute(sa.update(table).where(column.is_(None)).values({column: 1.0}))
        _rewrite(table, _with_default)
    defaults = {RUNS.c.tool_choice: "auto", RUNS.c.parallel_tool_calls: True}
    for column, default in defaults.items():
        op.execute(sa.update(RUNS).where(column.is_(sa.null())).values({column: default}))
    # SQLite's may stay nullable: whoever needs a value there writes one.
    if op.get_bind().dialect.name != "sqlite":
        for name in NULLABLE:
            op.alter_column("runs", name, nullable=False)


def _replace_columns() -> None:
    """Makes the columns nullable, without making the table anew.

    To drop the table would delete the steps of its runs with it, and the check of foreign keys
    cannot be turned off within a transaction.
    """
    for name, kind in NULLABLE.items():
        op.add_column("runs", sa.Column(f"new_{name}", kind))
        op.execute(f"UPDATE runs SET new_{name} = {name}")
        op.execute(f"ALTER TABLE runs DROP COLUMN {name}")
        op.execute(f"ALTER TABLE runs RENAME COLUMN new_{name} TO {name}")


def _rewrite(table: sa.TableClause, change: Callable[[Any], Any]) -> None:
    """Changes each tool of all rows that have functions."""
    for id, tools in _with_functions(table):
        changed = [change(tool) for tool in tools]
        if changed != tools:
            op.execute(sa.update(table).where(table.c.id == id).values(tools=changed))


def _with_functions(table: sa.TableClause) -> Iterator[Any]:
    after = ""
    while True:
        rows = (
            op.get_bind()
            .execute(
                sa.select(table.c.id, table.c.tools)
                .where(table.c.id > after, sa.cast(table.c.tools, sa.Text()).like("%function%"))
                .order_by(table.c.id)
                .limit(BATCH)
            )
            .all()
        )
        yield from rows
        if len(rows) < BATCH:
            return
        after = rows[-1].id


def _without_default(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("function", {}).get("strict") is not False:
        return tool
    kept = {key: value for key, value in tool["function"].items() if key != "strict"}
    return tool | {"function": kept}


def _with_default(tool: dict[str, Any]) -> dict[str, Any]:
    if "function" not in tool or "strict" in tool["function"]:
        return tool
    return tool | {"function": tool["function"] | {"strict": False}}
