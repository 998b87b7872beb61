"""Whether PostgreSQL answers: asked again and again, on a connection of its own.

What waits for a thread or for a lock may wait long, and the database is there all the same. So no
call can tell by its own patience that the database has gone; this can, in less than two seconds.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import structlog

PERIOD = 0.5
"""Seconds between two questions."""

PATIENCE = 0.5
"""Seconds that an answer may take. Where there is none, a second question decides."""

log = structlog.get_logger(__name__)


class Pulse:
    """What is known of a database: `beats` is false from when it has gone until it answers."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Takes it to be there."""
        self._parameters = parameters
        self.beats = True

    async def watch(self, changed: Callable[[bool], None]) -> None:
        """Asks until it is cancelled; says whenever the database has gone, and when it is back."""
        connection: psycopg.AsyncConnection[Any] | None = None
        failures = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(PATIENCE):
                        if connection is None:
                            connection = await psycopg.AsyncConnection.connect(
                                autocommit=True, **self._parameters
                            )
                        await connection.execute("SELECT 1")
                except (psycopg.Error, OSError) as error:
                    await _close(connection)
                    connection, failures = None, failures + 1
                    if failures == 1:
                        # That connection was lost, or the database: a new one tells.
                        continue
                    self._found(False, changed, str(error))
                else:
                    failures = 0
                    self._found(True, changed)
                await asyncio.sleep(PERIOD)
        finally:
            await _close(connection)

    def _found(self, beats: bool, changed: Callable[[bool], None], reason: str = "") -> None:
        if beats == self.beats:
            return
        self.beats = beats
        if beats:
            log.info("database is back")
        else:
            log.error("database is gone", reason=reason.strip().partition("\n")[0] or "silence")
        changed(beats)


async def _close(connection: psycopg.AsyncConnection[Any] | None) -> None:
    if connection is not None:
        with contextlib.suppress(psycopg.Error, OSError):
            await connection.close()
