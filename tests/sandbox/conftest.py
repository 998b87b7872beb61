"""Fixtures of the sandbox's tests."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.sandbox.limits import Limits
from service.sandbox.port import Sandbox, Session
from tests.support.sandbox.places import ENGINES, Make, Open, maker, temporary_root


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for one test, which sessions of other users can pass through."""
    with temporary_root() as root:
        yield root


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of every engine that works here."""
    return str(request.param)


@pytest.fixture
def make(engine: str, root: Path) -> Callable[..., Sandbox]:
    """Makes the engine, with limits of the test's choice."""
    made: Make = maker(engine)

    def make_one(**limits: float) -> Sandbox:
        return made(root, Limits(**limits))  # type: ignore[arg-type]

    return make_one


@pytest.fixture
async def opened(make: Callable[..., Sandbox]) -> AsyncIterator[Open]:
    """Opens sessions, with limits of the test's choice, and closes them after it."""
    sessions: list[Session] = []

    async def open_one(thread: str = "thread", **limits: float) -> Session:
        sessions.append(await make(**limits).open(thread))
        return sessions[-1]

    yield open_one
    for session in sessions:
        await session.close()
