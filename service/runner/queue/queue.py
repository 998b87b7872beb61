"""The port of the run queue, from which workers take what they execute.

Adapters are modules beside this one. tests/contract/test_run_queue.py runs each of them.
"""

from typing import Protocol


class QueueClosed(Exception):
    """The queue was closed: no run can be taken any more."""


class RunQueue(Protocol):
    """Ids of runs to execute.

    Order: runs of one group, which is their assistant, come oldest first. Groups take turns, so
    that one with many runs does not keep the others waiting.

    Server: a run may be put for one server first. The others of the queue take it no sooner than
    `FIRST_SECONDS` later.

    Delivery: at least once, to one of those who take. A run that waits already is not added again;
    one that has been taken is in a later epoch (storage.transitions.epoch), also before it is
    acknowledged, or was not claimed, and is added again once it is acknowledged. A run that was
    taken and not acknowledged is delivered again once the server that took it is gone, if the queue
    outlives it. Claiming the run in the database is what makes repeated delivery harmless.

    Loss: what a queue loses in a crash stays queued in the database, where the reconciler finds it
    and puts it again. So `put` never fails for its caller.

    A server that executes no runs has one from which nothing is taken: it only hands runs over to
    the servers that do, if the queue reaches them, and remembers none.
    """

    async def open(self) -> None:
        """Makes ready. Nothing else is called before. Raises SettingsError."""

    async def put(self, run_id: str, epoch: int, group: str, *, server: str | None = None) -> None:
        """Adds a run as it is in this epoch, if need be for one `server` first.

        A queue that is closed or away may drop it.
        """

    @property
    def empty(self) -> bool:
        """Whether no run waits, as far as this server knows."""

    async def ready(self) -> None:
        """Waits until there is a run to take. Raises QueueClosed."""

    async def take(self) -> str | None:
        """Takes a run and returns its id; None if none waits, as others have taken it meanwhile.

        Raises QueueClosed. If cancelled, it takes none.
        """

    async def acknowledge(self, run_id: str) -> None:
        """Says that a run that was taken needs no other delivery."""

    async def close(self) -> None:
        """Ends all taking. What waits, or was not acknowledged, is left to other servers."""
