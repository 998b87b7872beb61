"""How a run ends whose attempt was stopped."""

from service.runner.answer import Ending
from service.runner.events.bus import Stop
from storage.tables import RunStatus

STOPPED = {
    Stop.cancelled: Ending(status=RunStatus.cancelled, message_incomplete="run_cancelled"),
    Stop.expired: Ending(status=RunStatus.expired, message_incomplete="run_expired"),
}
"""By the reason. An attempt that was stopped for another one does not end its run."""
