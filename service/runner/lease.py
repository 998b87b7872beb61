"""The renewal of an attempt's lease."""

import asyncio
from collections.abc import Callable

import structlog

from service.runner.events.bus import Stop
from storage.claims import Claim, Claims
from storage.errors import ClaimLost, Unreachable

log = structlog.get_logger(__name__)


class LeaseRenewal:
    """Renews a lease at an interval. Until the first time it is but a timer, and no task."""

    def __init__(
        self, claims: Claims, claim: Claim, interval: float, stop: Callable[[Stop], None]
    ) -> None:
        """Renews every `interval` seconds from now on; calls `stop` when the claim is lost."""
        self._claims = claims
        self._claim = claim
        self._interval = interval
        self._lost = stop
        self._loop = asyncio.get_running_loop()
        self._renewing: asyncio.Task[None] | None = None
        self._wait()

    async def stop(self) -> None:
        """Ends the renewal."""
        self._next.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            # It may have set the timer again.
            self._next.cancel()

    def _wait(self) -> None:
        self._next = self._loop.call_later(self._interval, self._begin)

    def _begin(self) -> None:
        name = f"lease renewal of {self._claim.run.id}"
        self._renewing = asyncio.create_task(self._renew(), name=name)

    async def _renew(self) -> None:
        try:
            # Cancellation is not looked for here: the worker does, sooner and for all attempts.
            await self._claims.renew(self._claim)
        except ClaimLost:
            self._lost(Stop.lost)
        except Unreachable as error:
            # It is tried again, until the lease has run out for good.
            log.warning("lease not renewed", run_id=self._claim.run.id, reason=str(error))
        except Exception:
            log.warning("lease not renewed", run_id=self._claim.run.id, exc_info=True)
        self._wait()
