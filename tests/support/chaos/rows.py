"""What the database has of the load, read past all links."""

from typing import Any

import psycopg

from tests.support.chaos.fleet import Fleet

UNENDED = "status IN ('queued', 'in_progress', 'requires_action', 'cancelling')"


class Rows:
    """Reads on a connection that is made anew each time, as the database comes and goes."""

    def __init__(self, fleet: Fleet) -> None:
        """Reads the database of a fleet."""
        self._url = fleet.database

    def open(self) -> set[str]:
        """Returns the ids of the runs that have not ended."""
        return {id for (id,) in self._all(f"SELECT id FROM runs WHERE {UNENDED}")}

    def attempts(self) -> list[tuple[str, int]]:
        """Returns the name of each run that has one, and how often it was claimed or given back."""
        return self._all("SELECT metadata ->> 'name', attempt FROM runs WHERE metadata ? 'name'")

    def written(self, ids: set[str]) -> list[Any]:
        """Returns all that is stored of runs, of their steps and of their messages."""
        return [
            self._all(f"SELECT t::text FROM {table} t WHERE {key} = ANY(%s) ORDER BY id", [*ids])
            for table, key in (("runs", "id"), ("run_steps", "run_id"), ("messages", "run_id"))
        ]

    def status_of_run(self, id: str) -> str:
        """Returns a run's status."""
        return str(self._all("SELECT status FROM runs WHERE id = ANY(%s)", [id])[0][0])

    def _all(self, sql: str, *parameters: list[str]) -> list[Any]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(sql.encode(), parameters or None).fetchall()
