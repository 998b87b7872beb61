"""What threads and messages take, stored in PostgreSQL: rows that the database copies from a few.

    python -m bench.stored 1000000    # threads; ten messages and five runs in each

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
    # What is timed adds messages.
    _say("one thread", _calls(server, [_prototype(server)]))
    thread_id = _prototype(server)
    engine = server.engine()
    inserts = list(_inserts(engine, thread_id))
    begun = time.monotonic()
    for start in range(0, threads, PORTION):
        stop = min(start + PORTION, threads)
        with engine.begin() as connection:
            for insert in inserts:
                connection.exec_driver_sql(insert, {"start": start, "stop": stop - 1})
        if stop * 10 % threads < PORTION * 10:
            _say(f"{stop:,} threads", {"seconds": time.monotonic() - begun} | _sizes(engine))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
        sample = f"SELECT id FROM threads ORDER BY md5(id) LIMIT {SAMPLES}"
        found = [str(each[0]) for each in connection.exec_driver_sql(sample)]
    _say("after VACUUM", _sizes(engine))
    _say("all threads", _calls(server, found))
    engine.dispose()


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
    query = "SELECT pg_table_size('{0}'), pg_indexes_size('{0}'), reltuples FROM pg_class"
    found: dict[str, float] = {}
    with engine.connect() as connection:
        for name in TABLES:
            where = f" WHERE relname = '{name}'"
            rows, indexes, _ = connection.exec_driver_sql(query.format(name) + where).one()
            found |= {f"{name} MB": rows / 1e6, f"{name} indexes MB": indexes / 1e6}
        size = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
        found["all MB"] = size.scalar_one() / 1e6
    return found


def _calls(server: Server, threads: list[str]) -> dict[str, float]:
    """Times calls on threads, one after the other; returns medians in ms, and memory in MB."""
    kinds: dict[str, Callable[[str], Any]] = {
        "get thread": lambda id: server.get(f"/threads/{id}"),
        "list messages": lambda id: server.get(f"/threads/{id}/messages"),
        "add message": lambda id: server.post(
            f"/threads/{id}/messages", {"role": "user", "content": TEXT}
        ),
        "list threads": lambda id: server.get(f"/threads?after={id}"),
    }
    found: dict[str, float] = {}
    for name, call in kinds.items():
        times = []
        for number in range(SAMPLES):
            begun = time.perf_counter()
            call(threads[number % len(threads)])
            times.append(1000 * (time.perf_counter() - begun))
        found[f"{name} ms"] = statistics.median(times)
    found["Python MB"] = processes.resident_bytes(server.python) / 1e6
    return found


def _say(what: str, figures: dict[str, float]) -> None:
    print(what, " | ".join(f"{name}: {value:,.1f}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
