"""What is measured, by name. Each case is a class, whose objects are prepared to be measured."""

from collections.abc import Callable
from typing import Final

from bench.cases import (
    calls,
    peers,
    runs,
    sandbox,
    search,
    servers,
    streams,
    threads,
    transfers,
)
from bench.measuring import Bench, Case

CASES: Final[dict[str, Callable[[Bench], Case]]] = {
    **calls.CASES,
    **runs.CASES,
    **streams.CASES,
    **threads.CASES,
    **servers.CASES,
    **peers.CASES,
    **sandbox.CASES,
    **transfers.CASES,
    **search.CASES,
}
"""All of them, in the order in which they are measured."""

ON_DEMAND: Final = frozenset({"search-1m"})
"""Those that are measured only where their whole name is given: they take most of an hour."""
