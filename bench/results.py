"""What a run of the bench found: judged, printed, and written down."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from bench.measuring import Figures, Sizes
from bench.targets import Database, Target, targets

_COLUMNS: Final = "{:<20} {:<32} {:<22} {:>10} {:>9}  {:<20} {}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A target beside what was measured."""

    target: Target
    rounds: tuple[float, ...]
    """None at all, where the case failed."""

    @property
    def median(self) -> float | None:
        """What is judged."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def missed(self) -> bool:
        """Whether it is worse than the target by more than the tolerance, or not known."""
        return self.median is None or self.target.missed(self.median)

    @property
    def fails(self) -> bool:
        """Whether the run of the bench fails by it."""
        return self.missed and self.target.judged


@dataclass(slots=True)
class Results:
    """What the cases have found so far."""

    database: Database
    sizes: Sizes
    generator: str
    cases: tuple[str, ...]
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why cases have failed."""

    def add(self, case: str, figures: Figures) -> None:
        """Takes in what a case found in a round."""
        self.rounds.setdefault(case, []).append(figures)

    def judgements(self) -> list[Judgement]:
        """Returns all targets of the cases. A case that has failed has reached none.

        Those of figures that a case did not find, as of peers that are not set up, are left out.
        """
        return [
            Judgement(target, () if target.case in self.failures else self._rounds(target))
            for target in targets(self.database, frozenset(self.cases))
            if target.case in self.failures or target.figure in self.medians(target.case)
        ]

    def medians(self, case: str) -> Figures:
        """Returns all that a case found."""
        rounds = self.rounds.get(case, [])
        return {
            name: statistics.median(each[name] for each in rounds)
            for name in (rounds[0] if rounds else ())
        }

    def lines(self) -> Iterator[str]:
        """Yields the tables: the targets, and all figures."""
        yield f"{self.database}, {self.generator}, rounds: {self.sizes.rounds}. Medians."
        yield ""
        yield _COLUMNS.format(
            "case", "figure", "unit", "target", "median", "least … most", "verdict"
        )
        for each in self.judgements():
            yield _line(each)
        yield ""
        yield "All figures: CPU of each process and latencies in ms per call, memory in KiB"
        for case in self.cases:
            figures = (f"{name}: {_number(value)}" for name, value in self.medians(case).items())
            yield f"{case:<20} {' | '.join(figures)}"
        for case, reason in self.failures.items():
            yield f"{case} failed: {reason}"

    def write(self, path: Path) -> None:
        """Writes everything down, with the date and the machine."""
        path.write_bytes(orjson.dumps(self.to_json(), option=orjson.OPT_INDENT_2))

    def to_json(self) -> dict[str, Any]:
        """Returns everything, as it is written down."""
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "machine": {
                "cores": os.cpu_count(),
                "kernel": platform.release(),
                "processor": _processor(),
                "python": platform.python_version(),
            },
            "database": self.database,
            "load": self.generator,
            "sizes": self.sizes,
            "targets": [
                {
                    "case": each.target.case,
                    "figure": each.target.figure,
                    "unit": each.target.unit.name,
                    "target": each.target.value,
                    "tolerance": each.target.unit.tolerance,
                    "judged": each.target.judged,
                    "median": each.median,
                    "missed": each.missed,
                }
                for each in self.judgements()
            ],
            "rounds": self.rounds,
            "failures": self.failures,
        }

    def _rounds(self, target: Target) -> tuple[float, ...]:
        return tuple(each[target.figure] for each in self.rounds.get(target.case, []))


def _line(judgement: Judgement) -> str:
    target = judgement.target
    sign = ">=" if target.unit.more_is_better else "<="
    median, span = "-", "-"
    if judgement.median is not None:
        median = _number(judgement.median)
        span = f"{_number(min(judgement.rounds))} … {_number(max(judgement.rounds))}"
    verdict = "ok" if not judgement.missed else "MISSED" if target.judged else "missed (an aim)"
    wanted = f"{sign} {_number(target.value)}"
    return _COLUMNS.format(
        target.case, target.figure, target.unit.name, wanted, median, span, verdict
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _commit() -> str | None:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parent, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str | None:
    fields: Mapping[str, str] = dict(
        (part.strip() for part in line.split(":", 1))  # type: ignore[misc]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if ":" in line
    )
    return fields.get("model name")
