"""The heartbeat of an attempt, which renews its lease."""

import asyncio
from collections.abc import Callable

import structlog

from service.runner.stops import Stop
from storage.claims import Claim, Claims
from storage.errors import ClaimLost

log = structlog.get_logger(__name__)


class LeaseRenewal:
    """Beats at an interval. A short run does without: until the first beat there is but a timer."""

    def __init__(
        self, claims: Claims, claim: Claim, interval: float, stop: Callable[[Stop], None]
    ) -> None:
        """Beats every `interval` seconds from now on; calls `stop` when the claim is lost."""
        self._claims = claims
        self._claim = claim
        self._interval = interval
        self._lost = stop
        self._loop = asyncio.get_running_loop()
        self._beating: asyncio.Task[None] | None = None
        self._wait()

    async def stop(self) -> None:
        """Beats no more."""
        self._next.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            # It may have set the timer again.
            self._next.cancel()

    def _wait(self) -> None:
        self._next = self._loop.call_later(self._interval, self._begin)

    def _begin(self) -> None:
        name = f"heartbeat of {self._claim.run.id}"
        self._beating = asyncio.create_task(self._beat(), name=name)

    async def _beat(self) -> None:
        try:
            # Whether it was cancelled, the worker asks, and sooner: for all attempts at once.
            await self._claims.renew(self._claim)
        except ClaimLost:
            self._lost(Stop.lost)
        except Exception:
            # The database is away. It is tried again, until the lease has run out for good.
            log.warning("lease not renewed", run_id=self._claim.run.id, exc_info=True)
        self._wait()
