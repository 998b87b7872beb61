"""Attacks that reach for what is outside: they succeed without a boundary, and fail within it."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from service.sandbox.limits import Limits
from service.sandbox.port import Sandbox, Session
from tests.support.sandbox.attacks import HARMLESS, Attack
from tests.support.sandbox.calls import Outcome, call
from tests.support.sandbox.places import COMMAND, ENGINES, maker, temporary_root
from tests.support.sandbox.scene import Scene, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLDER = [f"landlock-{version}" for version in range(1, 7)] if "landlock" in ENGINES else []
"""Landlock as older kernels have it."""

ENCLOSING = [*(engine for engine in ENGINES if engine != "command" or COMMAND), *OLDER]
"""The command that the tests have by themselves encloses nothing."""

RESTRICTED = os.environ.get("TEST_RESTRICTED") == "1"
"""Whether the tests themselves run in a container, where most attacks fail anyway."""


class Arena:
    """A scene with a session that attacks; a new one where an attack has ended it."""

    def __init__(self, sandbox: Sandbox, scene: Scene) -> None:
        self.own_kernel = sandbox.name == "command"
        """Whether sessions have a kernel of their own, as in gVisor."""

        self._sandbox = sandbox
        self._scene = scene
        self._session: Session | None = None
        self._sessions = 0

    async def run(self, attack: Attack) -> tuple[Outcome, bool]:
        """Runs an attack. Returns what it brought, and whether it succeeded."""
        self._scene.restore()
        if self._session is None or self._session.lost is not None:
            await self.close()
            self._sessions += 1
            self._session = await self._sandbox.open(f"attacker{self._sessions}")
        outcome = await call(self._session, attack.aimed(self._scene))
        if attack.spoils:
            await self._session.close()
        return outcome, attack.succeeded(outcome, self._scene)

    async def close(self) -> None:
        """Ends the session."""
        if self._session is not None:
            await self._session.close()


@pytest.fixture(scope="module")
def aim() -> Iterator[Scene]:
    """The scene, for all attacks."""
    with temporary_root() as root, scene(root) as made:
        yield made


@asynccontextmanager
async def arena(engine: str, aim: Scene) -> AsyncIterator[Arena]:
    """An arena on an engine."""
    made = Arena(maker(engine)(aim.root / f"threads-{engine}", Limits(seconds=20)), aim)
    try:
        yield made
    finally:
        await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_arena(aim: Scene) -> AsyncIterator[Arena]:
    """An arena without a boundary."""
    async with arena("plain", aim) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENCLOSING)
async def closed_arena(aim: Scene, request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    """An arena of each engine."""
    async with arena(request.param, aim) as made:
        yield made


@pytest.mark.skipif(RESTRICTED, reason="what is around the tests encloses already")
@pytest.mark.parametrize("attack", HARMLESS, ids=str)
async def test_succeeds_without_a_boundary(open_arena: Arena, attack: Attack) -> None:
    outcome, succeeded = await open_arena.run(attack)
    assert succeeded or (attack.needs_root and os.getuid()), outcome.text


@pytest.mark.parametrize("attack", HARMLESS, ids=str)
async def test_fails_within(closed_arena: Arena, attack: Attack) -> None:
    outcome, succeeded = await closed_arena.run(attack)
    assert not succeeded or (attack.at_kernel and closed_arena.own_kernel), outcome.text
