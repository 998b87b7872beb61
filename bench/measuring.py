"""One run of the bench: its sizes, its servers, and how a load is measured on them."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from bench.load import Call, Generator, Load, LoadError
from bench.stack import Cost, Model, Server, start_postgres
from bench.targets import Database
from tests.support.postgres import Postgres

T = TypeVar("T")

Figures = Mapping[str, float]
"""What a case found out in one round, by name."""

CALIBRATION: Final = 0.4
"""Seconds that a load must last at least to show how fast it is."""

COMPLETE: Final = 0.95
"""The part of the expected bytes that answers have at least: ids and numbers vary a little."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything there is."""

    processes: int = 1
    """Processes of Python behind one Envoy. What is judged is one."""
    rounds: int = 5
    seconds: float = 2.0
    """How long each load lasts, about; 0: as many calls as there are clients."""
    clients: int = 32
    threads: int = 256
    """Threads that messages are added to."""
    listed: int = 120
    """Messages of the thread that is listed."""
    first_tokens: int = 100
    beside: int = 50
    """Streams beside which the first token is waited for."""
    streams: int = 200
    pieces: int = 50
    pause: int = 200
    """Milliseconds before each piece of a stream."""
    followed: int = 8
    """Runs that are followed on two servers at once."""
    silent: int = 1_000
    pages: int = 600
    """Calls for pages of a long thread."""
    short: int = 1_000
    long: int = 100_000
    longest: int = 1_000_000
    """Messages of the short, the long and the longest thread."""
    copied: int = 100_000
    """Messages of the thread that is copied and deleted."""
    sessions: int = 12
    """Sessions of the code interpreter that are open together."""
    file: int = 300_000_000
    """Bytes of the file that is sent up and down."""
    indexed: int = 15_000_000
    """Bytes of the text that is indexed: more than some 18 MB have more tokens than may be."""
    created: int = 100
    """Messages that are created before a file is indexed."""
    questions: int = 50
    small_store: int = 10_000
    large_store: int = 100_000
    largest_store: int = 1_000_000
    """Chunks of the vector stores that are searched."""
    peers: bool = True
    """Whether other servers are measured, if they are set up."""
    one_server: bool = False
    """Whether one server has the settings of all cases."""


QUICK: Final = Sizes(
    rounds=1,
    seconds=0,
    clients=1,
    threads=1,
    listed=1,
    first_tokens=1,
    beside=1,
    streams=1,
    pieces=2,
    pause=10,
    followed=1,
    silent=1,
    pages=1,
    short=4,
    long=8,
    longest=8,
    copied=8,
    sessions=1,
    file=100_000,
    indexed=20_000,
    created=1,
    questions=2,
    small_store=60,
    large_store=60,
    largest_store=60,
    peers=False,
    one_server=True,
)
"""Everything once: whether it works."""

DEFAULTS: Final[Mapping[str, str]] = {}
KEYED: Final = {
    "ASSISTANTS_AUTH": "keys",
    "ASSISTANTS_BOOTSTRAP_KEY": "sk-the-key-of-the-bench-itself",
}
"""Settings for calls with a key."""

MANY_RUNS: Final = {
    "ASSISTANTS_WORKER_CONCURRENCY": "1000",
    "ASSISTANTS_MODEL_IDLE_TIMEOUT": "600",
}
"""Settings for more runs at once than a server executes by default."""

KNOWN_CONTEXT: Final = {"ASSISTANTS_MODEL_CONTEXT_TOKENS": "8192"}
"""Settings for a model whose context is known."""


class Case(Protocol):
    """Something that is measured. Making it prepares it; `measure` is called in each round."""

    def measure(self) -> Figures:
        """Measures it once."""


class Bench:
    """What the cases share. `with` ends all that they have started."""

    def __init__(self, database: Database, sizes: Sizes, generator: Generator) -> None:
        """Starts what all cases need: the model."""
        self.database = database
        self.sizes = sizes
        self.generator = generator
        self.profiled = False
        """Whether loads are profiled."""
        self.profiles: list[str] = []
        """Profiles that were taken."""
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.model = Model()
            stack.callback(self.model.stop)
            self._stack = stack.pop_all()
        # Not methods with @cache, which would keep the bench itself.
        self.postgres = cache(lambda: self.keep(_postgres()))
        self._server = cache(self._start)
        self._plan = cache(self._calibrate)

    def server(self, settings: Mapping[str, str]) -> Server:
        """Returns the server with these settings, which cases share."""
        if self.sizes.one_server:
            settings = MANY_RUNS | KNOWN_CONTEXT
        return self._server(tuple(sorted(settings.items())))

    def new_server(self, settings: Mapping[str, str], processes: int = 0) -> Server:
        """Returns a server that is not started yet, and that its caller ends.

        It will have so many processes, or as many as all others.
        """
        postgres = self.postgres() if self.database == "postgresql" else None
        return Server(self.model.base_url, settings, postgres, processes or self.sizes.processes)

    def end(self, end: Callable[[], None]) -> None:
        """Has something be ended with the bench."""
        self._stack.callback(end)

    @contextmanager
    def serving(self, settings: Mapping[str, str]) -> Iterator[Server]:
        """Gives a new server, and deletes it at the end."""
        server = self.new_server(settings)
        try:
            yield server.start()
        finally:
            server.delete()

    def keep(self, resource: AbstractContextManager[T]) -> T:
        """Returns what a resource gives, and ends it with the bench."""
        return self._stack.enter_context(resource)

    def take(
        self, server: Server, call: Call, clients: int, *, calls: int = 0, profiled: bool = True
    ) -> tuple[Load, Cost]:
        """Loads a server with a call, for as long as a load lasts or for a number of calls.

        Returns what it took its clients, and the server. Raises LoadError.
        """
        planned, body_bytes = self._plan(call, clients)
        calls = calls or planned
        with self.watch(server) if profiled else server.watch() as cost:
            result = self.generator.run(call, clients, calls)
        if result.body_bytes < COMPLETE * body_bytes * calls:
            answers = f"{result.body_bytes} bytes in {calls} answers"
            raise LoadError(f"{call.urls[0]}: {answers}, not {body_bytes} in each")
        return result, cost

    def calls(self, call: Call, clients: int) -> int:
        """Returns how many calls a load is made of."""
        return self._plan(call, clients)[0]

    @contextmanager
    def watch(self, server: Server) -> Iterator[Cost]:
        """Counts what a server takes meanwhile. A profile of it is added to `profiles`."""
        with server.watch(profiled=self.profiled) as cost:
            yield cost
        if self.profiled:
            self.profiles.append(server.profile)

    def _calibrate(self, call: Call, clients: int) -> tuple[int, int]:
        """Returns how many calls a load is made of, and the bytes of one answer. It warms up."""
        calls = clients
        if not self.sizes.seconds:
            return calls, 1
        one = self.generator.run(call, len(call.bodies) or 1, len(call.bodies) or 1)
        body_bytes = max(one.body_bytes // one.calls, 1)
        while (tried := self.generator.run(call, clients, calls)).seconds < CALIBRATION:
            calls *= 4
        least = max(tried.rate * self.sizes.seconds, clients)
        return clients * math.ceil(least / clients), body_bytes

    def _start(self, settings: tuple[tuple[str, str], ...]) -> Server:
        made = self.new_server(dict(settings))
        self._stack.callback(made.delete)
        return made.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


@contextmanager
def _postgres() -> Iterator[Postgres]:
    # Not deeper: a Unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        postgres = start_postgres(Path(directory))
        try:
            yield postgres
        finally:
            postgres.stop()
