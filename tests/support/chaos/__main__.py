"""`make chaos`: faults in any order, for as long as wanted.

Prints what each has come to, and ends with 1 where something was not as it must be.

    python -m tests.support.chaos [--seconds 600] [--cases nats_killed,worker_killed] [--seed N]
"""

import argparse
import asyncio
import random
import sys
import time
import traceback
from collections import Counter

from tests.support.chaos.cases import CASES, Case
from tests.support.chaos.run import Chaos, Outcome, chaos


def main() -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--cases", default="", help="names, with commas between; else all")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    names = arguments.cases.split(",") if arguments.cases else [each.__name__ for each in CASES]
    cases = [case for case in CASES if case.__name__ in names]
    print(f"seed {arguments.seed}: {', '.join(case.__name__ for case in cases)}", flush=True)
    random.seed(arguments.seed)
    with chaos() as service:
        try:
            outcomes = asyncio.run(_suffer(service, cases, arguments.seconds))
        except Exception:
            traceback.print_exc()
            return 1
    return _sum_up(outcomes)


async def _suffer(service: Chaos, cases: list[Case], seconds: float) -> list[Outcome]:
    until, outcomes = time.monotonic() + seconds, list[Outcome]()
    while time.monotonic() < until:
        # Each once, in another order each time.
        for case in random.sample(cases, len(cases)):
            outcomes.append(await service.suffer(case))
            print(outcomes[-1], flush=True)
            if time.monotonic() >= until:
                break
    return outcomes


def _sum_up(outcomes: list[Outcome]) -> int:
    counts = sum((outcome.counts for outcome in outcomes), Counter[str]())
    again = sum(outcome.again for outcome in outcomes)
    slowest = max(outcome.slowest for outcome in outcomes)
    print(f"\n{len(outcomes)} faults, {again} runs executed again, the slowest {slowest:.1f} s")
    for what, count in sorted(counts.items()):
        print(f"{count:8} {what}")
    late = [outcome for outcome in outcomes if outcome.late]
    for outcome in late:
        print(f"too late: {outcome}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
