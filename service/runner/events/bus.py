"""The port of the event bus, which carries the events of runs to those who follow them.

Adapters are modules beside this one. tests/contract/test_event_bus.py runs each of them.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from service.errors import BusClosed, EventsGone
from service.types.events import Event

PORTION = 64
"""Events that a reader takes at once, at most: what a slow one holds takes memory."""

EPOCH_NUMBERS = 2**20
"""Numbers that an epoch has for itself on a bus that knows nothing of the epochs before it."""


class Stop(StrEnum):
    """Why an attempt at a run is to stop."""

    cancelled = "cancelled"  # a caller asked for it
    expired = "expired"  # the run's time is up
    released = "released"  # this server shuts down: another may take the run
    lost = "lost"  # the run is no longer ours


class Kept(NamedTuple):
    """Which events of a run are kept: those numbered above `after`, up to `last`."""

    after: int
    last: int
    over: bool
    """Whether the run's end has been published: none but `done` will follow."""


class EventBus(Protocol):
    """Carries the events of runs from those who execute them to those who follow them.

    Order: the events of a run have numbers, which increase strictly in the order of publication,
    and without gaps as long as the bus knows the run. Every reader gets them in that order, each
    once. Between two runs there is no order.

    Epochs: whoever publishes says in which epoch of the run (storage.transitions.epoch) it does. A
    bus that has lost count of a run, or does not know it, continues above all numbers of smaller
    epochs, whoever gave them: the first number of an epoch is greater than `epoch * EPOCH_NUMBERS`.
    A bus that several servers share drops what comes of an older epoch than it has of the run.

    Ownership: an event belongs to the bus once it is published. It is shared by all readers, and
    nobody changes it.

    Loss: what is kept is bounded in bytes and in time, and publishing never waits for readers; a
    reader that lags too far gets EventsGone. What a bus loses in a crash is what it kept: the
    database has the run, from which a stream is completed (see resync.py). A control message may be
    lost: the state of the run in the database is the truth, and workers look at it (Worker.watch).
    """

    async def open(self) -> None:
        """Makes ready. Nothing else is called before. Raises SettingsError."""

    async def publish(self, run_id: str, epoch: int, *events: Event) -> int:
        """Numbers the events, keeps them, wakes readers, and returns the first number.

        Without events, it returns the number that the next one will have.
        """

    async def publish_if_last(self, last: int, run_id: str, epoch: int, *events: Event) -> bool:
        """Publishes as above unless there is an event above number `last`; returns whether."""

    def subscribe(self, run_id: str, after: int) -> "Subscription":
        """Returns a reader of the run's events above number `after`: those kept, then new ones.

        The run may be unknown to the bus.
        """

    async def kept(self, run_id: str) -> Kept | None:
        """Returns which events of the run are kept, or None if the bus knows of none."""

    async def publish_stop(self, run_id: str, reason: Stop) -> None:
        """Asks whoever executes the run to stop. It is delivered once at most, and not kept.

        An adapter that is in the same process as its subscribers delivers it before it returns.
        """

    def subscribe_stops(self, receive: Callable[[str, Stop], None]) -> None:
        """Calls `receive` with the run's id and the reason of each stop, until the bus is closed.

        `receive` neither waits nor raises. It is called for all runs, executed here or not.
        """

    async def close(self) -> None:
        """Ends every subscription, now or later: readers get what is kept, then BusClosed.

        What is published afterwards may reach nobody. Nothing else fails.
        """


class Subscription(Protocol):
    """One reader of a run's events, which never end."""

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns the next events, as many as there are but no more than PORTION.

        Waits for the first of them; after `seconds` without one, returns none. Raises EventsGone
        when some are not kept any more, BusClosed when the bus is closed and all are taken. A take
        that is cancelled loses nothing.
        """

    async def aclose(self) -> None:
        """Stops reading."""


async def kept_events(
    bus: EventBus, run_id: str, after: int, last: int
) -> AsyncGenerator[Event, None]:
    """Yields the kept events of a run numbered above `after`, up to `last`."""
    # What is dropped meanwhile is no reason to refuse the rest.
    with contextlib.suppress(EventsGone, BusClosed):
        async with contextlib.aclosing(bus.subscribe(run_id, after)) as source:
            while after < last:
                for event in await source.take():
                    if event.number > last:
                        return
                    after = event.number
                    yield event
