"""Why an attempt is broken off, and how its run ends then."""

from enum import StrEnum

from service.runner.answer import Ending
from storage.tables import RunStatus


class Stop(StrEnum):
    """Why an attempt breaks its model off."""

    cancelled = "cancelled"  # a caller asked for it
    expired = "expired"  # the run's time is up
    released = "released"  # this server shuts down: another may take the run
    lost = "lost"  # the run is no longer ours


STOPPED = {
    Stop.cancelled: Ending(status=RunStatus.cancelled, message_incomplete="run_cancelled"),
    Stop.expired: Ending(status=RunStatus.expired, message_incomplete="run_expired"),
}
"""How a run ends that was broken off."""
