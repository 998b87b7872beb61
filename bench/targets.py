"""What each figure of the bench is to be: one table."""

from dataclasses import dataclass
from typing import Final, Literal

Database = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a figure counts, and how far a median may be off its target before it is a miss."""

    name: str
    tolerance: float
    more_is_better: bool = False


RATIO: Final = Unit("of its rate", 0.15, more_is_better=True)
CPU: Final = Unit("ms of CPU", 0.10)
CPU_RATIO: Final = Unit("no-ops of CPU", 0.10)
TIME: Final = Unit("ms", 0.30)
GROWTH: Final = Unit("times a short thread's", 0.15)
TIMES: Final = Unit("times its rate", 0.15, more_is_better=True)
OWN: Final = Unit("times its own server's", 0.0)
MEMORY: Final = Unit("KiB", 0.10)

RATE: Final = Unit("MB/s", 0.15, more_is_better=True)
CHUNKS: Final = Unit("a second of CPU", 0.10, more_is_better=True)

BOTH: Final[tuple[Database, ...]] = ("sqlite", "postgresql")
SQLITE: Final[tuple[Database, ...]] = ("sqlite",)
POSTGRESQL: Final[tuple[Database, ...]] = ("postgresql",)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a case, and what it is to be. An aim is reported, but fails nothing."""

    case: str
    figure: str
    unit: Unit
    value: float
    databases: tuple[Database, ...] = BOTH
    judged: bool = True

    def missed(self, median: float) -> bool:
        """Returns whether a median is worse than the target by more than the tolerance."""
        if self.unit.more_is_better:
            return median < self.value * (1 - self.unit.tolerance)
        return median > self.value * (1 + self.unit.tolerance)


AIM: Final = False

TARGETS: Final = (
    *(
        target
        for api in ("", "grpc-")
        for target in (
            Target(f"{api}get-assistant", "of the no-op", RATIO, 0.70, SQLITE),
            Target(f"{api}get-assistant", "Python", CPU, 0.8, SQLITE),
            Target(f"{api}create-thread", "of the no-op", RATIO, 0.45, SQLITE),
            Target(f"{api}create-message", "of the no-op", RATIO, 0.45, SQLITE),
            Target(f"{api}list-20", "of the no-op", RATIO, 0.45, SQLITE),
            Target(f"{api}list-100", "of the no-op", RATIO, 0.20, SQLITE),
            Target(f"{api}get-assistant", "of the no-op", RATIO, 0.35, POSTGRESQL, AIM),
            Target(f"{api}create-thread", "of the no-op", RATIO, 0.25, POSTGRESQL, AIM),
            Target(f"{api}create-message", "of the no-op", RATIO, 0.25, POSTGRESQL, AIM),
            Target(f"{api}list-20", "of the no-op", RATIO, 0.30, POSTGRESQL, AIM),
            Target(f"{api}list-100", "of the no-op", RATIO, 0.15, POSTGRESQL, AIM),
        )
    ),
    # A key costs next to nothing, and no query.
    Target("keyed-get-assistant", "of the no-op", RATIO, 0.70, SQLITE),
    Target("keyed-get-assistant", "Python", CPU, 0.8, SQLITE),
    Target("runs", "of the no-op", RATIO, 0.12, SQLITE),
    Target("runs", "Python of the no-op", CPU_RATIO, 10, SQLITE),
    Target("runs", "of the no-op", RATIO, 0.08, POSTGRESQL),
    Target("runs-one-client", "of the no-op", RATIO, 0.10),
    Target("first-token", "after the model's", TIME, 8),
    Target("first-token", "after the model's beside streams", TIME, 25),
    Target("streams", "until all have ended", TIME, 11_500),
    Target("streams", "Python per piece", CPU, 0.5),
    Target("silent-streams", "Python per stream", MEMORY, 150),
    Target("silent-streams", "Envoy per stream", MEMORY, 100),
    Target("start", "until ready", TIME, 3_000),
    Target("start", "Python", MEMORY, 150 * 1024),
    Target("pages", "first", GROWTH, 1.2),
    Target("pages", "middle", GROWTH, 1.2),
    Target("pages", "last", GROWTH, 1.2),
    # By as much as the machine has cores for: an aim.
    Target("processes", "runs", TIMES, 1.5, judged=AIM),
    Target("other-server", "added median", TIME, 10, POSTGRESQL),
    Target("other-server", "99th of its own", OWN, 3, POSTGRESQL),
    Target("peers", "times aegra", TIMES, 10, judged=AIM),
    Target("peers", "times aegra-redis", TIMES, 10, judged=AIM),
    Target("peers", "times langgraph", TIMES, 10, judged=AIM),
    Target("long-threads", "auto of 8,192 tokens", GROWTH, 2),
    Target("long-threads", "last_messages 10", GROWTH, 2),
    Target("sandbox", "first call", TIME, 600, SQLITE),
    Target("sandbox", "over CPython", TIME, 15, SQLITE),
    Target("sandbox", "each of twelve", MEMORY, 1024 * 1024 / 12, SQLITE),
    *(
        target
        for count in ("one", "eight")
        for way in ("up", "down")
        for target in (
            Target("transfers", f"{count}, {way}: MB/s", RATE, 100),
            Target("transfers", f"{count}, {way}: Python's memory", MEMORY, 120 * 1024),
            Target("transfers", f"{count}, {way}: Envoy's memory", MEMORY, 120 * 1024),
        )
    ),
    Target("indexing", "chunks per CPU second", CHUNKS, 300),
    Target("indexing", "message's growth beside", TIME, 20),
    Target("search-10k", "median ms", TIME, 15, SQLITE),
    Target("search-100k", "median ms", TIME, 60, SQLITE),
    Target("search-1m", "median ms", TIME, 800, SQLITE),
    Target("search-10k", "median ms", TIME, 10, POSTGRESQL),
    Target("search-100k", "median ms", TIME, 15, POSTGRESQL),
    *(Target(case, "read's growth beside", TIME, 5) for case in ("search-10k", "search-100k")),
    Target("search-1m", "read's growth beside", TIME, 5, SQLITE),
)


def targets(database: Database, cases: frozenset[str]) -> list[Target]:
    """Returns those of some cases on a database, in the order of the table."""
    return [each for each in TARGETS if database in each.databases and each.case in cases]
