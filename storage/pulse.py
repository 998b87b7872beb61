"""Whether PostgreSQL answers: asked again and again, on a connection of its own.

What waits for a thread or for a lock may wait long, and the database is there all the same. So no
call can tell by its own patience that the database has gone; this can, in less than two seconds.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import structlog

PERIOD = 0.4
"""Seconds between two questions."""

PATIENCE = (0.4, 1.0)
"""Seconds that an answer may take. Where there is none, a second question decides, for which a
new connection must be made."""

STALL = 0.2
"""Seconds by which waiting may last longer than asked for. If it does, this process has not been
running, so that silence says nothing."""

_STALLED = "stalled"

log = structlog.get_logger(__name__)


class Pulse:
    """What is known of a database: `beats` is false from when it has gone until it answers."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Takes it to be there."""
        self._parameters = parameters
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._beating = asyncio.Event()
        self._beating.set()

    @property
    def beats(self) -> bool:
        """Whether the database answered last time."""
        return self._beating.is_set()

    async def wait(self) -> None:
        """Waits until it answers, if it has gone."""
        await self._beating.wait()

    async def watch(self, changed: Callable[[bool], None]) -> None:
        """Asks until it is cancelled; says whenever the database has gone, and when it is back."""
        failures = 0
        try:
            while True:
                if (reason := await self._ask(PATIENCE[min(failures, 1)])) is None:
                    failures = 0
                    self._found(True, changed)
                elif reason == _STALLED:
                    continue
                else:
                    failures += 1
                    if failures == 1:
                        # That connection was lost, or the database: a new one tells.
                        continue
                    self._found(False, changed, reason)
                await asyncio.sleep(PERIOD)
        finally:
            await self._close()

    async def _ask(self, patience: float) -> str | None:
        """Returns why there was no answer, or None if there was one."""
        asking = asyncio.create_task(self._question())
        began = time.monotonic()
        try:
            await asyncio.wait([asking], timeout=patience)
        finally:
            silent = not asking.done()
            stalled = time.monotonic() - began > patience + STALL
            if silent:
                self._give_up(asking)
            [outcome] = await asyncio.gather(asking, return_exceptions=True)
        if outcome is None:
            return None
        await self._close()
        if silent:
            return _STALLED if stalled else "silence"
        return str(outcome).strip().partition("\n")[0]

    async def _question(self) -> None:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                autocommit=True, **self._parameters
            )
        await self._connection.execute("SELECT 1")

    def _give_up(self, asking: asyncio.Task[None]) -> None:
        if self._connection is None:
            asking.cancel()
            return
        # Cancelled, the driver would ask the server to cancel, too, and wait for that.
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as connected,
        ):
            connected.shutdown(socket.SHUT_RDWR)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    def _found(self, beats: bool, changed: Callable[[bool], None], reason: str = "") -> None:
        if beats == self.beats:
            return
        if beats:
            self._beating.set()
            log.info("database is back")
        else:
            self._beating.clear()
            log.error("database is gone", reason=reason)
        changed(beats)
