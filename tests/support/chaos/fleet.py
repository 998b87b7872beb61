"""A service on many processes, which a test may hurt: each has links of its own to what all share.

Two servers that execute runs, a worker, and a gateway before the servers; PostgreSQL, NATS, and the
scripted model server. Their clocks are two minutes apart, from the slowest to the fastest.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.serve.test_metrics import value
from tests.serve.test_servers_on_nats import healthy
from tests.support.link import DatabaseLink, NatsLink
from tests.support.model_server import ModelServer
from tests.support.nats import Nats
from tests.support.postgres import SURVIVING, Postgres
from tests.support.secret import new_secret
from tests.support.serve.parts import Part, grpc_server, worker
from tests.support.stack import COMMAND, Stack, free_address

LEASE = 4.0
"""Seconds."""

CLOCKS = {"one": 60, "other": -60, "worker": 0}
"""Seconds by which the clock of each process is wrong."""


@dataclass(frozen=True)
class Member:
    """A process that executes runs, and its links."""

    part: Part
    database: DatabaseLink
    nats: NatsLink

    @property
    def pid(self) -> int:
        """The process."""
        assert self.part.process is not None
        return self.part.process.pid

    def value(self, name: str, **labels: str) -> float:
        """Returns a value of its metrics."""
        return value(self.part, name, **labels)

    def busy(self) -> bool:
        """Whether it executes runs."""
        return self.value("assistants_worker_runs") >= 1

    def sees_nats(self) -> bool:
        """Whether it says that NATS is there."""
        return self.value("assistants_nats_up", prefix="assistants") == 1


@dataclass(frozen=True)
class Fleet:
    """All of the service."""

    postgres: Postgres
    database: str
    """The URL of the database, past all links."""
    nats: Nats
    models: ModelServer
    servers: list[Member]
    worker: Member
    gateway: Stack
    members: list[Member] = field(init=False)
    """What executes runs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", [*self.servers, self.worker])

    def healthy(self) -> bool:
        """Whether all is there, and everybody says so."""
        return (
            self.gateway.healthy()
            and all(
                healthy(each.part) and healthy(each.part, "nats") and self._whole(each)
                for each in self.servers
            )
            and self._whole(self.worker)
        )

    def _whole(self, member: Member) -> bool:
        return member.value("assistants_database_up") == 1 and member.sees_nats()


@contextlib.contextmanager
def fleet() -> Iterator[Fleet]:
    """Gives a fleet that works, and that must end well, too."""
    # Short, as the paths of Unix sockets in it must be.
    root = Path(tempfile.mkdtemp(prefix="ch-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        for name in ("pg", "nats", "data"):
            (root / name).mkdir()
        # PostgreSQL may be a user of its own.
        root.chmod(0o711)
        models = ModelServer().start()
        stack.callback(models.stop)
        postgres = Postgres(root / "pg", SURVIVING)
        stack.callback(postgres.stop)
        database = postgres.url(postgres.create_database())
        nats = Nats(root / "nats")
        stack.callback(nats.kill)
        secret = {"ASSISTANTS_EDGE_SECRET": new_secret("edge-")}
        env = {
            "ASSISTANTS_MODEL_BASE_URL": models.base_url,
            "ASSISTANTS_DATA_DIR": str(root / "data"),
            "ASSISTANTS_LEASE_SECONDS": str(LEASE),
            "ASSISTANTS_SANDBOX": "auto",
            # Readers notice a server that is silent.
            "ASSISTANTS_KEEP_ALIVE_SECONDS": "1",
        }

        def member(name: str) -> Member:
            to_database = stack.enter_context(DatabaseLink(database))
            to_nats = stack.enter_context(NatsLink(nats.port))
            own = {
                "ASSISTANTS_DATABASE_URL": to_database.url,
                "ASSISTANTS_NATS_URL": to_nats.url,
                "ASSISTANTS_METRICS_ADDRESS": free_address(),
                "ASSISTANTS_CLOCK_OFFSET": str(CLOCKS[name]),
                # Some runs find no slot where they are created: the worker takes them.
                "ASSISTANTS_WORKER_CONCURRENCY": "8" if name == "worker" else "2",
            }
            part = worker(env | own) if name == "worker" else grpc_server(env | secret | own)
            return Member(stack.enter_context(part), to_database, to_nats)

        servers = [member("one"), member("other")]
        works = member("worker")
        upstreams = ",".join(each.part.grpc_address for each in servers)
        edge = secret | {"ASSISTANTS_GRPC_UPSTREAMS": upstreams}
        gateway = stack.enter_context(Stack(edge, (COMMAND, "gateway")))
        parts: list[Stack] = [each.part for each in (*servers, works)]
        for each in (*parts, gateway):
            each.start()
        yield Fleet(postgres, database, nats, models, servers, works, gateway)
        for each in (gateway, *parts):
            assert each.terminate() == 0, each.printed()
