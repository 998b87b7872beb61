"""Databases that earlier versions wrote are brought up to date, with all that is in them."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

import storage
from storage import pgvector, schema
from storage.database import Database
from tests.storage.test_schema import OWN, differences

COMMON = {"project_id": "proj_1", "created_at": 1, "metadata": {}}
ENDS = {"tool_resources": {}, "response_format": "auto"}
SCHEMA = {"type": "object", "properties": {"z": {}, "a": {"default": False}}}


def _tools(**strict: bool) -> list[dict[str, Any]]:
    function = {"name": "f", "description": "strict", "parameters": SCHEMA, **strict}
    return [{"type": "file_search"}, {"type": "function", "function": function}]


CHOSEN: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 0.5,
    "tools": _tools(strict=True),
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
}
DEFAULTS: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "tools": _tools(strict=False),
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
UNCHOSEN: dict[str, Any] = dict.fromkeys(DEFAULTS) | {"tools": _tools()}
READ = {"msg_1": "1", "msg_2": "2", "msg_3": "1", "msg_4": "4"}
"""What the run of each message had read, or its position."""

NEW_OF_THREADS = ("session_id", "session_server")
NEW_OF_RUNS = ("traceparent", "tool_resources", "include")
ONLY_RUNS = ("tool_choice", "parallel_tool_calls")


def migrate_to(connection: Connection, revision: str, *, down: bool = False) -> None:
    """Brings a schema to a version, up or `down`."""
    config = Config()
    migrations = Path(storage.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    if down:
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _reflected(connection: Connection) -> dict[str, sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda name, _: not name.startswith(OWN))
    return dict(metadata.tables)


def _run(id: str, status: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        **COMMON,
        "id": id,
        "position": id,
        "thread_id": "thread_1",
        "assistant_id": "asst_1",
        "status": status,
        "waiting": False,
        "attempt": 0,
        "queued_at": 1.0,
        "context_until": "1",
        "model": "m",
        "instructions": "",
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": "auto",
        "expires_at": None if status == "completed" else 9,
    } | values


def _message(id: str, position: str, run_id: str | None = None) -> dict[str, Any]:
    return {
        **COMMON,
        "id": id,
        "position": position,
        "context_position": READ[id],
        "thread_id": "thread_1",
        "status": "completed",
        "role": "user" if run_id is None else "assistant",
        "content": [{"type": "text", "text": {"value": "Hi", "annotations": []}}],
        "attachments": [],
        "run_id": run_id,
    }


def _fill(connection: Connection, defaults: dict[str, Any]) -> None:
    """Inserts what the version before the upgrade wrote, where nobody had chosen anything."""
    tables = _reflected(connection)

    def insert(table: str, *rows: dict[str, Any]) -> None:
        for row in rows:
            # Given as None, a document would be a null of JSON's; the version may lack a column.
            known = tables[table].c
            given = {key: row[key] for key in row if key in known and row[key] is not None}
            connection.execute(tables[table].insert().values(**given))

    for number, values in enumerate((defaults, CHOSEN), 1):
        own = {key: value for key, value in values.items() if key not in ONLY_RUNS}
        row = {**COMMON, **ENDS, **own, "id": f"asst_{number}", "position": str(number)}
        insert("assistants", row | {"model": "m"})
    thread = {**COMMON, "id": "thread_1", "position": "1", "tool_resources": {}}
    insert("threads", thread)
    insert("runs", _run("run_1", "completed", defaults), _run("run_2", "queued", CHOSEN))
    insert(
        "messages",
        _message("msg_1", "1"),
        # It came while the run worked, which had read the first only.
        _message("msg_2", "2"),
        _message("msg_3", "3", "run_1"),
        _message("msg_4", "4", "run_x"),
    )
    for number in (1, 2):
        insert(
            "run_steps",
            {
                **COMMON,
                "id": f"step_{number}",
                "position": str(number),
                "thread_id": "thread_1",
                "run_id": f"run_{number}",
                "assistant_id": "asst_1",
                "type": "tool_calls",
                "status": "completed",
                "step_details": {"type": "tool_calls", "tool_calls": []},
            },
        )


def _rows(connection: Connection) -> dict[str, dict[str, Any]]:
    """Returns the rows of all tables by their ids."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in _reflected(connection).items():
        if name != "alembic_version":
            rows = connection.execute(sa.select(table)).mappings()
            found |= {row["id"]: dict(row) for row in rows}
    return found


def _without(rows: dict[str, Any], id: str) -> dict[str, Any]:
    return {each: row for each, row in rows.items() if each != id}


def _constraints(connection: Connection) -> dict[str, Any]:
    """Returns the indexes and foreign keys of what migrations make, in the database's own words."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
    else:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
    inspector = sa.inspect(connection)
    names = [name for name in inspector.get_table_names() if name != pgvector.NAME]
    keys = {name: inspector.get_foreign_keys(name) for name in names}
    indexes = map(tuple, connection.execute(sa.text(query)))
    return {
        "indexes": sorted(each for each in indexes if not each[0].startswith(pgvector.NAME)),
        "keys": keys,
    }


def _upgraded(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the rows as the newest version has them."""
    own = {key: value for key, value in UNCHOSEN.items() if key not in ONLY_RUNS}
    found = rows | {"asst_1": rows["asst_1"] | own, "run_1": rows["run_1"] | UNCHOSEN}
    found |= {"thread_1": rows["thread_1"] | dict.fromkeys(NEW_OF_THREADS)}
    found |= {id: found[id] | dict.fromkeys(NEW_OF_RUNS) for id in ("run_1", "run_2")}
    found |= {id: rows[id] | {"replay": None} for id in ("step_1", "step_2")}
    found |= {id: rows[id] | {"context_position": at} for id, at in READ.items()}
    uncounted = dict.fromkeys(("messages", "runs_free_at", "tokens_free_at"))
    found.pop("default", None)
    if "api_keys" in found:
        return found
    owner = {"id": "proj_1", "name": "proj_1", "created_at": 1} | uncounted
    return found | {"proj_1": owner, "api_keys": {"id": "api_keys", "number": 0}}


@pytest.mark.parametrize(
    ("revision", "defaults"),
    [
        ("0001", DEFAULTS),
        ("0002", DEFAULTS),
        ("0003", UNCHOSEN),
        ("0004", UNCHOSEN),
        ("0005", UNCHOSEN),
        ("0006", UNCHOSEN),
        ("0007", UNCHOSEN),
        ("0008", UNCHOSEN),
        ("0009", UNCHOSEN),
        ("0010", UNCHOSEN),
        ("0011", UNCHOSEN),
        ("0012", UNCHOSEN),
    ],
)
async def test_a_database_of_each_earlier_version(
    empty_database_url: str, revision: str, defaults: dict[str, Any]
) -> None:
    database = Database(empty_database_url)
    with database.connect() as connection:
        migrate_to(connection, revision)
        _fill(connection, defaults)
        before = _rows(connection)
        constraints = _constraints(connection)
        connection.commit()
    # From 0006 on, there are a project and a version, too.
    assert len(before) == 11 + 2 * (revision >= "0006")
    await database.migrate()
    with database.connect() as connection:
        after = _rows(connection)
        # Made now, and so without a time to compare.
        assert after.pop("default")["name"] == "default"
        assert after.pop(schema.ROW)["number"] == schema.OLDEST
        assert after == _upgraded(before)
        # The keys of a schema keep their order.
        [_, tool] = after["run_1"]["tools"]
        assert list(tool["function"]["parameters"]["properties"]) == ["z", "a"]
        assert differences(connection) == []
        # No null of JSON's, which would not be null to SQL.
        query = sa.text("SELECT id FROM runs WHERE tool_choice IS NULL")
        assert list(connection.execute(query).scalars()) == ["run_1"]

        # No migration makes that row, and none removes it.
        migrate_to(connection, revision, down=True)
        assert _without(_rows(connection), schema.ROW) == before
        assert _constraints(connection) == constraints
        migrate_to(connection, "head")
        assert _without(_rows(connection), schema.ROW).keys() == {*after, "default"}
        connection.commit()
    await database.close()
