"""How many calls a minute a caller may make of this server.

A caller may make a minute's calls at once; then it gets one back each time that the share of one
has passed. What is kept of a caller is when it would have all of them back, and only until then.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

MINUTE = 60.0

AT_LEAST = 1024
"""Callers of whom times are kept before those are looked for that have all their calls back."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """How it stands with a caller after a call."""

    limit: int
    """Calls a minute."""
    remaining: int
    """Calls that it could make now."""
    reset: float
    """Seconds until it has all of them back."""
    retry_after: float | None
    """Seconds until it may make this call; None if it was admitted."""

    def headers(self) -> Headers:
        """The rate in the headers of OpenAI's API."""
        return (
            ("x-ratelimit-limit-requests", str(self.limit)),
            ("x-ratelimit-remaining-requests", str(self.remaining)),
            ("x-ratelimit-reset-requests", f"{self.reset:.3f}s"),
        )


class Rates:
    """The rates of all callers."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        """Allows each caller `per_minute` calls a minute of a clock, which tells seconds."""
        self._clock = clock
        self._limit = per_minute
        self._share = MINUTE / per_minute
        self._full_at: dict[str, float] = {}
        self._sweep_at = AT_LEAST

    def take(self, caller: str) -> Rate:
        """Counts a call, and returns the rate; one too many is not counted."""
        now = self._clock()
        owed = max(0.0, self._full_at.get(caller, now) - now)
        # A thousandth more than a minute: these are sums of fractions.
        over = owed + self._share - MINUTE
        if admitted := over <= self._share / 1000:
            owed += self._share
            self._keep(caller, now + owed, now)
        remaining = max(0, math.floor((MINUTE - owed) / self._share + 0.001))
        return Rate(self._limit, remaining, owed, None if admitted else over)

    def _keep(self, caller: str, full_at: float, now: float) -> None:
        self._full_at[caller] = full_at
        if len(self._full_at) > self._sweep_at:
            self._full_at = {each: at for each, at in self._full_at.items() if at > now}
            self._sweep_at = max(AT_LEAST, 2 * len(self._full_at))
