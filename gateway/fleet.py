"""`assistants serve --processes N`: several servers on one machine, behind one Envoy.

The parent holds the data directory, and starts what they have in common: Envoy, the embedded model,
NATS. It serves no calls itself. Each server is a process of its own (gateway/member.py), which is
started again when it dies; calls go to the others meanwhile.
"""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import orjson
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway import addresses, children, envoy, nats, schema, serve, tls
from service.errors import SettingsError
from service.listening import Part
from service.process import metrics
from service.process.child import Child
from service.settings import Settings

COMMAND = (sys.executable, "-m", "gateway.member")
"""What runs a member; its argument is a `Member` as JSON."""

MOST = 99
"""Processes at most."""

LAST_SECONDS = 10.0
"""How long a member may take to end, besides the grace that its runs have."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a member is told."""

    number: int
    works: bool
    embedded: children.ModelServer | None
    """The embedded model, if that is the model."""

    def part(self, settings: Settings) -> Part:
        """Returns what the member does."""
        return Part(sockets=_directory(settings) / str(self.number), works=self.works)

    def argument(self) -> str:
        """Returns it as an argument of the command."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def parse(cls, argument: str) -> "Member":
        """Reads the argument."""
        given = orjson.loads(argument)
        embedded = given["embedded"]
        model = None if embedded is None else children.ModelServer(**embedded)
        return cls(given["number"], given["works"], model)


async def run(
    settings: Settings, processes: int, *, insecure: bool = False, works: bool = True
) -> None:
    """Runs so many servers with all that they need, until SIGTERM or SIGINT.

    Raises SettingsError.
    """
    stop = serve.stop_signals()
    if settings.grpc_upstreams:
        raise SettingsError(
            "ASSISTANTS_GRPC_UPSTREAMS: not with --processes, which calls its own servers"
        )
    listening = addresses.listening(settings, http=True, grpc=True)
    addresses.check(listening, settings, insecure=insecure)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(children.data_directory(settings.data_dir))
        await schema.migrate(settings)
        await stack.enter_async_context(tls.kept_up_to_date(settings))
        parts = [Member(number, works, None).part(settings) for number in range(processes)]
        config = envoy.write(settings, parts)
        await stack.enter_async_context(children.running_envoy(settings, config))
        model = await stack.enter_async_context(children.model_server(settings, works=works))
        embedded = None
        if works and settings.model_base_url is None:
            # Together they ask no more of it at once than one server would.
            embedded = replace(model, slots=max(1, (model.slots or 1) // processes))
        environment = {}
        if settings.nats_url is None:
            environment["ASSISTANTS_NATS_URL"] = await stack.enter_async_context(
                nats.running(settings)
            )
        members = [Member(number, works, embedded) for number in range(processes)]
        await stack.enter_async_context(_running(settings, members, environment))
        async with serve.meanwhile(lambda: serve.greet(settings)):
            await stop.wait()


@contextlib.asynccontextmanager
async def _running(
    settings: Settings, members: list[Member], environment: Mapping[str, str]
) -> AsyncIterator[None]:
    """Runs the members, and serves the sum of their metrics."""
    counts = _directory(settings) / "metrics"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    environment = {metrics.DIRECTORY: str(counts.absolute()), **environment}
    running = [_child(settings, each, environment) for each in members]
    if settings.metrics_address is not None:
        pids = lambda: [each.pid for each in running if each.pid is not None]  # noqa: E731
        metrics.serve(settings.metrics_address, metrics.Together(counts, pids))
    try:
        await asyncio.gather(*map(children.start, running))
        yield
    finally:
        patience = settings.shutdown_grace + LAST_SECONDS
        await asyncio.gather(*(each.stop(patience) for each in running))


def _child(settings: Settings, member: Member, environment: Mapping[str, str]) -> Child:
    part = member.part(settings)
    assert part.sockets is not None
    part.sockets.mkdir(parents=True, exist_ok=True)
    socket = part.socket("grpc")

    async def ready() -> bool:
        async with grpc.aio.insecure_channel(f"unix:{socket and socket.absolute()}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest())
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return Child(
        f"server {member.number}",
        [*COMMAND, member.argument()],
        ready=ready,
        environment=environment,
        logs=True,
    )


def _directory(settings: Settings) -> Path:
    return settings.data_dir / "servers"
