"""One fault after the other, under load, and what holds after each."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.chaos.cases import Case, Scene
from tests.support.chaos.fleet import LEASE, fleet
from tests.support.chaos.load import Load

MARGIN = 10.0
"""Seconds beyond a lease within which runs end."""

TURNS = {"plain": 1, "cancelled": 1, "function": 2}
"""How often the model of a run of a kind is asked where nothing happens."""


@dataclass(frozen=True)
class Outcome:
    """What a case has come to."""

    name: str
    seconds: float
    """How long it took in all."""
    slowest: float
    """How long it took until all runs had ended that were open when they could go on again."""
    again: int
    """How often a run was executed again."""
    figures: dict[str, float]
    counts: Counter[str]

    @property
    def late(self) -> bool:
        """Whether a run has ended later than it must."""
        return self.slowest > LEASE + MARGIN

    def __str__(self) -> str:
        measured = {f"{what} {seconds:.2f} s" for what, seconds in self.figures.items()}
        counted = {f"{count} {what}" for what, count in sorted(self.counts.items())}
        head = f"{self.name:22} {self.seconds:5.1f} s, runs ended within {self.slowest:4.1f} s"
        return "; ".join(
            [head, f"{self.again} executed again", *sorted(measured), *sorted(counted)]
        )


class Chaos:
    """A fleet under load, to which one fault after the other happens."""

    def __init__(self, scene: Scene) -> None:
        """Begins when all is well."""
        self._scene = scene
        self._known = 0

    async def suffer(self, case: Case) -> Outcome:
        """Has a fault happen, and checks all. Raises AssertionError."""
        scene, record = self._scene, self._scene.load.record
        record.case, scene.figures, scene.slowest = case.__name__, {}, None
        before, begun = Counter(record.counts), time.monotonic()
        since = await case(scene)
        if scene.slowest is None:
            await scene.ended(scene.rows.open(), since)
        assert scene.slowest is not None
        await scene.whole()
        await scene.load.goes_on()
        again = self._check()
        return Outcome(
            case.__name__,
            time.monotonic() - begun,
            scene.slowest,
            again,
            scene.figures,
            record.counts - before,
        )

    def _check(self) -> int:
        """Checks that no run was executed twice; returns how many were executed again since."""
        scene = self._scene
        assert scene.load.record.violations == [], "\n".join(scene.load.record.violations)
        assert scene.fleet.models.problems == []
        asked, again = Counter(scene.load.model.asked), 0
        rows = scene.rows.attempts()
        twice = [name for name, count in Counter(name for name, _ in rows).items() if count > 1]
        assert twice == [], "runs that were created twice"
        for name, attempts in rows:
            # Each time that a run was claimed, its model was asked once.
            assert asked[name] <= attempts, f"{name}: asked {asked[name]} times in {attempts}"
            again += max(0, asked[name] - TURNS[scene.load.record.kinds[name]])
        known, self._known = self._known, again
        return again - known


@contextlib.contextmanager
def chaos() -> Iterator[Chaos]:
    """Gives a fleet under load, to which faults may happen."""
    with fleet() as made:
        load = Load(made)
        with load.running():
            yield Chaos(Scene(made, load))
