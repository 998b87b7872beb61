"""What threads and messages take, stored in PostgreSQL: rows that the database copies from a few.

    make stored THREADS=1000000    # ten messages and five runs in each: 22 GB on the disk

Prints, at each tenth, bytes by table, and in the end what a server's calls take on all that.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import SQLModel

from bench import processes
from bench.stack import Model, Server
from tests.support.postgres import FAST, Postgres

TURNS: Final = 5
"""Runs of a thread, each with a question before it and an answer."""

TEXT: Final = "The quick brown fox jumps over the lazy dog, and nobody minds that it does so. " * 5
"""Of a message: 400 characters."""

INSTRUCTIONS: Final = TEXT * 2
"""Of the assistant, which each run has a copy of."""

PORTION: Final = 5_000
"""Threads that are copied in one transaction."""

TABLES: Final = ("threads", "messages", "runs", "run_steps")

SAMPLES: Final = 500
"""Calls of each kind that are timed."""


def main(threads: int) -> None:
    """Fills a database, and measures it."""
    with tempfile.TemporaryDirectory(prefix="stored-") as directory:
        # What is measured is how much there is, not how fast it came.
        postgres, model = Postgres(Path(directory), FAST), Model()
        server = Server(model.base_url, {"ASSISTANTS_LOG_LEVEL": "warning"}, postgres)
        try:
            server.start()
            _measure(server, threads)
            server.stop()
        finally:
            server.delete()
            model.stop()
            postgres.stop()


def _measure(server: Server, threads: int) -> None:
    assistant = server.assistant("instant-8")
    engine = server.engine()
    inserts = list(_inserts(engine, _prototype(server)))
    begun = time.monotonic()
    for start in range(0, threads, PORTION):
        stop = min(start + PORTION, threads)
        with engine.begin() as connection:
            # Copies have what they refer to, as what is copied has.
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            for insert in inserts:
                connection.exec_driver_sql(insert, {"start": start, "stop": stop - 1})
        if start == 0:
            _say(f"{stop:,} threads", _calls(server, engine, assistant, _sample(engine)))
        if stop * 10 % threads < PORTION * 10:
            _say(f"{stop:,} threads", {"seconds": time.monotonic() - begun} | _sizes(engine))
    sample = _sample(engine)
    _say("after VACUUM", _sizes(engine) | _bytes_of_rows(engine))
    for _ in range(2):
        # First from the disk, then from memory.
        _say(f"{threads:,} threads", _calls(server, engine, assistant, sample))
    engine.dispose()


def _sample(engine: sa.Engine) -> list[str]:
    """Returns threads from everywhere, once PostgreSQL has done its own housekeeping."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
        sample = f"SELECT id FROM threads ORDER BY md5(id) LIMIT {SAMPLES}"
        return [str(each[0]) for each in connection.exec_driver_sql(sample)]


def _prototype(server: Server) -> str:
    """Makes a thread by calls, and returns its id."""
    assistant = server.post(
        "/assistants", {"model": "instant-8", "instructions": INSTRUCTIONS, "name": "Guide"}
    )["id"]
    thread_id = str(server.post("/threads", {"metadata": {"user": "1234567890"}})["id"])
    for _ in range(TURNS):
        server.post(f"/threads/{thread_id}/messages", {"role": "user", "content": TEXT})
        server.stream(f"/threads/{thread_id}/runs", {"assistant_id": assistant, "stream": True})
    return thread_id


def _inserts(engine: sa.Engine, thread_id: str) -> Iterator[str]:
    """Gives the statements that copy a thread and all that is in it, for a range of numbers."""
    rows: list[tuple[str, dict[str, Any]]] = []
    with engine.connect() as connection:
        for name in TABLES:
            key = "id" if name == "threads" else "thread_id"
            query = sa.text(f"SELECT to_jsonb(t) FROM {name} t WHERE {key} = :id ORDER BY position")
            found = connection.execute(query, {"id": thread_id}).scalars()
            rows += [(name, row) for row in found]
    positions = {row["position"]: number for number, (_, row) in enumerate(rows)}
    kinds = SQLModel.metadata.tables
    for name, row in rows:
        columns = kinds[name].c
        values = ", ".join(
            _value(columns[key], value, positions, engine.dialect) for key, value in row.items()
        )
        names = ", ".join(row)
        numbers = "generate_series(%(start)s::bigint, %(stop)s::bigint) AS n"
        yield f"INSERT INTO {name} ({names}) SELECT {values} FROM {numbers}"


def _value(column: Any, value: Any, positions: dict[str, int], dialect: sa.Dialect) -> str:
    """Returns a value as SQL: of another thread, where it is of this one."""
    kind = column.type.compile(dialect)
    if value is None:
        return f"NULL::{kind}"
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    if isinstance(column.type, sa.JSON) and not isinstance(value, dict | list):
        text = json.dumps(value)
    # In a thread's copy, a position is of the same time, and counted on.
    parts = "'" + text.replace("'", "''").replace("%", "%%") + "'"
    for position, number in positions.items():
        own = f"lpad((n * 100 + {number})::text, 16, '0')"
        parts = parts.replace(position, f"{position[:10]}' || {own} || '")
    return f"({parts})::{kind}"


def _sizes(engine: sa.Engine) -> dict[str, float]:
    """Returns MB of tables and of their indexes."""
    found: dict[str, float] = {}
    with engine.connect() as connection:
        for name in TABLES:
            query = f"SELECT pg_table_size('{name}'), pg_indexes_size('{name}')"
            table, indexes = connection.exec_driver_sql(query).one()
            found |= {f"{name} MB": table / 1e6, f"{name} indexes MB": indexes / 1e6}
        size = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
        found["all MB"] = size.scalar_one() / 1e6
    return found


def _bytes_of_rows(engine: sa.Engine) -> dict[str, float]:
    """Returns how many bytes a row of each table has, and its entries in indexes."""
    query = "SELECT pg_table_size(oid), pg_indexes_size(oid), reltuples FROM pg_class"
    found: dict[str, float] = {}
    with engine.connect() as connection:
        for name in TABLES:
            where = f" WHERE relname = '{name}'"
            table, indexes, rows = connection.exec_driver_sql(query + where).one()
            found |= {f"{name} row B": table / rows, f"{name} row's indexes B": indexes / rows}
    return found


def _calls(
    server: Server, engine: sa.Engine, assistant: str, threads: list[str]
) -> dict[str, float]:
    """Makes calls on threads, one after the other.

    Returns median and 99th percentile in ms, ms of CPU of Python and PostgreSQL, kB of the
    write-ahead log, and memory in MB.
    """
    newest: dict[str, str] = {}

    def list_messages(id: str) -> None:
        newest[id] = server.get(f"/threads/{id}/messages")["data"][0]["id"]

    run = {"assistant_id": assistant, "stream": True}
    kinds: dict[str, Callable[[str], Any]] = {
        "get thread": lambda id: server.get(f"/threads/{id}"),
        "list messages": list_messages,
        "get message": lambda id: server.get(f"/threads/{id}/messages/{newest[id]}"),
        "list threads": lambda id: server.get(f"/threads?after={id}"),
        "add message": lambda id: server.post(
            f"/threads/{id}/messages", {"role": "user", "content": TEXT}
        ),
        "run": lambda id: server.stream(f"/threads/{id}/runs", run),
    }
    found: dict[str, float] = {}
    for name, call in kinds.items():
        times = []
        log = _log_bytes(engine)
        with server.watch() as cost:
            for number in range(SAMPLES):
                begun = time.perf_counter()
                call(threads[number % len(threads)])
                times.append(1000 * (time.perf_counter() - begun))
        found[f"{name} ms"] = statistics.median(times)
        found[f"{name} p99 ms"] = statistics.quantiles(times, n=100)[-1]
        found[f"{name} CPU ms"] = 1000 * cost.python_and_database / SAMPLES
        found[f"{name} log kB"] = (_log_bytes(engine) - log) / 1e3 / SAMPLES
    found["Python MB"] = processes.resident_bytes(server.python) / 1e6
    found["PostgreSQL MB"] = processes.proportional_bytes_of_family(server.postgres_pid) / 1e6
    return found


def _log_bytes(engine: sa.Engine) -> float:
    """Returns how many bytes of the write-ahead log there have been."""
    with engine.connect() as connection:
        query = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        return float(connection.exec_driver_sql(query).scalar_one())


def _say(what: str, figures: dict[str, float]) -> None:
    print(what, " | ".join(f"{name}: {value:,.1f}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
