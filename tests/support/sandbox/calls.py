"""Calls of a session, gathered."""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from service.sandbox.port import End, Error, Event, Image, Session, Text


@dataclass
class Outcome:
    """What one call brought."""

    events: list[Event] = field(default_factory=list)
    end: End = field(default_factory=End)

    @property
    def text(self) -> str:
        """All text, in order, errors by class and value."""
        said = ""
        for event in self.events:
            if isinstance(event, Text):
                said += event.text
            elif isinstance(event, Error):
                said += f"{event.name}: {event.value}\n"
        return said

    @property
    def images(self) -> list[Image]:
        """The images."""
        return [event for event in self.events if isinstance(event, Image)]

    @property
    def errors(self) -> list[Error]:
        """The exceptions."""
        return [event for event in self.events if isinstance(event, Error)]


async def gather(events: AsyncGenerator[Event, None]) -> Outcome:
    """Reads a call to its end, and checks that End is its last event."""
    outcome = Outcome()
    ends = 0
    async with aclosing(events) as all_events:
        async for event in all_events:
            assert not ends
            if isinstance(event, End):
                outcome.end = event
                ends += 1
            else:
                outcome.events.append(event)
    assert ends == 1
    return outcome


async def call(session: Session, code: str) -> Outcome:
    """Runs code in a session."""
    return await gather(session.run(code))


def commands_with(word: str) -> list[int]:
    """Returns the processes whose command line has a word in it."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(int(name))
    return found
