"""The clock of this process: for what may be off by minutes, and for no lease.

Ids have its time, files that are left over are old by it, and so are pauses that model servers ask
for. What servers have in common goes by the database's clock (storage/clock.py).
"""

import time

_offset = 0.0


def now() -> float:
    """Returns the time in unix seconds with their fraction."""
    return time.time() + _offset


def set_offset(seconds: float) -> None:
    """Has the clock go wrong by so many seconds from now on."""
    global _offset
    _offset = seconds
