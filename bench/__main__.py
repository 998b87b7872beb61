"""The command behind `make bench`."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench import load
from bench.cases import CASES, ON_DEMAND
from bench.measuring import QUICK, Sizes
from bench.run import run
from bench.targets import Database

HERE = Path(__file__).parent


def chosen(names: str) -> list[str]:
    """Returns the cases whose names are given, or begin so; all, if none are given.

    Raises typer.BadParameter.
    """
    wanted = [name for name in re.split(r"[\s,]+", names) if name]
    for name in wanted:
        if not any(case.startswith(name) for case in CASES):
            raise typer.BadParameter(f"there is no {name}, only {', '.join(CASES)}")
    return [
        case
        for case in CASES
        if case in wanted
        or (case not in ON_DEMAND and (not wanted or case.startswith(tuple(wanted))))
    ]


def main(
    database: Annotated[Database, typer.Option(help="Where servers keep their data.")] = "sqlite",
    cases: Annotated[str, typer.Option(help="Names of cases, or beginnings. Else all.")] = "",
    rounds: Annotated[int, typer.Option(help="Rounds, of which medians are judged.")] = 5,
    seconds: Annotated[float, typer.Option(help="How long each load lasts, about.")] = 2.0,
    processes: Annotated[int, typer.Option(help="Servers behind one Envoy.")] = 1,
    quick: Annotated[
        bool, typer.Option(help="Everything once, with one call: judges nothing.")
    ] = False,
) -> None:
    """Measures what calls and runs cost. Exit code 1: a target is missed."""
    generator = load.generator()
    if generator.name != load.H2LOAD:
        print(load.MISSING, file=sys.stderr)
    sizes = QUICK if quick else dataclasses.replace(Sizes(), rounds=rounds, seconds=seconds)
    sizes = dataclasses.replace(sizes, processes=processes)
    profiles = None if quick else HERE / "profiles"
    results = run(database, chosen(cases), sizes, generator, profiles)
    results.write(HERE / "results.json")
    print("\n".join(results.lines()))
    # The targets are of one process.
    missed = not quick and processes == 1 and any(each.fails for each in results.judgements())
    if missed or results.failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
