"""The parts of a service in processes of their own: servers, workers and a gateway."""

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from subprocess import Popen

from tests.support.secret import new_secret
from tests.support.stack import COMMAND, Stack, free_address


class Part(Stack):
    """A part that Envoy does not stand before: it says by itself that it works."""

    def __init__(self, env: Mapping[str, str], *arguments: str, says: str) -> None:
        """Runs `assistants` with these arguments; `says` is what it prints once it works."""
        super().__init__(env, (COMMAND, *arguments))
        self._says = says

    def healthy(self) -> bool:
        """Whether it has said so since its last start."""
        return self._says in self.printed()[self._before :]

    def spawn(self) -> Popen[bytes]:
        """Starts it without waiting."""
        self._before = len(self.printed()) if self.output.exists() else 0
        return super().spawn()


def grpc_server(env: Mapping[str, str], *arguments: str) -> Part:
    """Returns a server without an Envoy."""
    return Part(env, "serve", "--grpc-only", *arguments, says="gRPC on ")


def worker(env: Mapping[str, str]) -> Part:
    """Returns a worker."""
    return Part(env, "worker", says="Executes runs.")


@dataclass(frozen=True)
class Service:
    """Two servers that execute no runs, a worker, and a gateway before the servers."""

    servers: list[Part]
    worker: Part
    gateway: Stack


@contextlib.contextmanager
def service(
    env: dict[str, str],
    servers: dict[str, str],
    gateway: dict[str, str],
    host: str = "127.0.0.1",
) -> Iterator[Service]:
    """Gives all parts of a service, which run, and must end well, too.

    `env` is what all have; the others have it besides. `host` is what the gateway calls servers.
    """
    secret = {"ASSISTANTS_EDGE_SECRET": new_secret("edge-")}
    env = {"ASSISTANTS_LEASE_SECONDS": "2"} | env
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(grpc_server(env | secret | servers, "--no-worker"))
            for _ in range(2)
        ]
        upstreams = {
            "ASSISTANTS_GRPC_UPSTREAMS": ",".join(
                each.grpc_address.replace("127.0.0.1", host) for each in both
            ),
            "ASSISTANTS_HTTP_ADDRESS": free_address(),
        }
        works = stack.enter_context(worker(env))
        edge = stack.enter_context(Stack(env | secret | upstreams | gateway, (COMMAND, "gateway")))
        for each in (*both, works, edge):
            each.spawn()
        for each in (*both, works, edge):
            each.await_start()
        yield Service(both, works, edge)
        for each in (edge, *both, works):
            if each.process is not None and each.process.poll() is None:
                assert each.terminate() == 0, each.printed()
            # By a test, or in good order: none has ended otherwise.
            assert each.process is None or each.process.returncode in (0, -signal.SIGKILL)
            assert "Traceback" not in each.printed(), each.printed()
