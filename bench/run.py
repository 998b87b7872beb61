"""Runs the cases, round by round: what disturbs a round disturbs all of them alike."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.cases import CASES
from bench.load import Generator
from bench.measuring import Bench, Case, Sizes
from bench.results import Results
from bench.targets import Database


def run(
    database: Database,
    names: Sequence[str],
    sizes: Sizes,
    generator: Generator,
    profiles: Path | None = None,
) -> Results:
    """Prepares the cases and measures each in every round.

    Those that miss a target are measured once more, and their profiles written into the directory
    `profiles`, if there is one.
    """
    results = Results(database, sizes, generator.name, tuple(names))
    with Bench(database, sizes, generator) as bench:
        prepared: dict[str, Case] = {}
        for name in names:
            _say(f"preparing {name}")
            with _noting(results, name):
                prepared[name] = CASES[name](bench)
        for number in range(sizes.rounds):
            for name, case in prepared.items():
                if name not in results.failures:
                    _say(f"round {number + 1} of {sizes.rounds}: {name}")
                    with _noting(results, name):
                        results.add(name, case.measure())
        if profiles is not None:
            _profile(bench, prepared, results, profiles)
    return results


def _profile(bench: Bench, prepared: dict[str, Case], results: Results, directory: Path) -> None:
    missed = {each.target.case for each in results.judgements() if each.missed}
    directory.mkdir(exist_ok=True)
    bench.profiled = True
    for name, case in prepared.items():
        if name in missed and name not in results.failures:
            _say(f"profiling {name}")
            with _noting(results, name):
                case.measure()
            if bench.profiles:
                text = "\n".join(bench.profiles)
                (directory / f"{bench.database}-{name}.txt").write_text(text)
            bench.profiles.clear()


@contextmanager
def _noting(results: Results, name: str) -> Iterator[None]:
    """Lets a case fail, and leaves the others alone."""
    try:
        yield
    except Exception as error:
        # Of several at once, the first.
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        results.failures[name] = f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
