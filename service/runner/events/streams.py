"""Streams of events, as the transports read them."""

from collections.abc import Callable
from typing import Protocol

from service.types.events import Event


class EventStream(Protocol):
    """The events of a run, up to `done` or `error`."""

    @property
    def ended(self) -> bool:
        """Whether all has been taken."""

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns the next events, as many as are ready; none after `seconds` without one."""

    async def aclose(self) -> None:
        """Stops reading, wherever the stream is."""


class Finished:
    """A stream of events that are there already."""

    def __init__(self, *events: Event) -> None:
        self._events = [*events]
        self.ended = False

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns all of them."""
        self.ended = True
        return self._events

    async def aclose(self) -> None:
        """Does nothing."""


class Attended:
    """A stream that tells when its reader leaves it before its end; when it fails, nobody left."""

    def __init__(self, stream: EventStream, left: Callable[[], object]) -> None:
        """Reads `stream`; calls `left` when it is closed too early."""
        self._stream = stream
        self._left = left
        self._failed = False

    @property
    def ended(self) -> bool:
        """Whether all has been taken."""
        return self._stream.ended

    async def take(self, seconds: float | None = None) -> list[Event]:
        """Returns the stream's next events."""
        try:
            return await self._stream.take(seconds)
        except Exception:
            self._failed = True
            raise

    async def aclose(self) -> None:
        """Stops reading."""
        await self._stream.aclose()
        if not self.ended and not self._failed:
            self._left()
