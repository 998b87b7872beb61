"""The gRPC servers of a process: what it serves, to whom, and where.

The public server serves typed calls, health and reflection. The edge server serves the REST methods
of the same servicers, on a Unix socket that only Envoy uses, so that nobody else can speak as the
edge. For an Envoy on another machine, the public server serves them too, to who shows the edge's
secret. The calls of both pass through the same chain (service/calls.py).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import assistants.v1
import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.access import EdgeOnly, Identify
from service.api import typed
from service.errors import SettingsError
from service.process.certificates import Certificate, server_credentials
from service.rates import Rates
from service.settings import Settings

GROWTH = 16
"""How much larger a body can be as a message: JSON, ten times as `google.protobuf.Value`s."""

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    # Bytes of a call's headers, above Envoy's limit for the same reason.
    ("grpc.max_metadata_size", 128 * 2**10),
    ("grpc.absolute_max_metadata_size", 256 * 2**10),
    # Envoys on other machines ask every ten seconds whether it is there.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Else two servers share a port silently, and each gets half of the calls.
    ("grpc.so_reuseport", 0),
]

EDGE_OPTIONS: list[tuple[str, Any]] = [
    # Windows do not grow with what Envoy could send: an upload that is stored slowly is held there.
    ("grpc.http2.bdp_probe", 0),
]

EdgeHandlers = Callable[
    [Mapping[str, object], Identify, Rates | None], list[grpc.GenericRpcHandler]
]
"""Makes the handlers of REST; takes the servicers by the full names of their services, what says
whose a call is, and the rate of calls, if it is limited.
"""


SOCKETS = {"edge": "edge.sock", "files": "edge.sock", "grpc": "grpc.sock"}
"""The sockets on which Envoy's clusters call: `edge` has REST, also for `files`, `grpc` the rest.

The gRPC port itself may want TLS.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """What one process does of all that the service does."""

    address: str | None = None
    """HOST:PORT of its gRPC, if it has one."""
    sockets: Path | None = None
    """The directory of the Unix sockets on which the Envoy of its machine calls it, if one does."""
    works: bool = True
    """Whether it executes runs, and indexes files."""

    def socket(self, cluster: str) -> Path | None:
        """Returns the Unix socket of a cluster of Envoy's, of `SOCKETS`."""
        return self.sockets and self.sockets / SOCKETS[cluster]


class Listening:
    """Makes the servers of a part."""

    def __init__(
        self,
        settings: Settings,
        part: Part,
        servicers: Mapping[str, object],
        identify: Identify,
        rates: Rates | None,
        edge_handlers: EdgeHandlers,
        health: health_aio.HealthServicer,
    ) -> None:
        """Serves the servicers, which are given by the full names of their services."""
        self._settings = settings
        self._part = part
        self._servicers = servicers
        self._identify = identify
        self._rates = rates
        self._edge_handlers = edge_handlers
        self._health = health

    def servers(self) -> list[grpc.aio.Server]:
        """Returns the servers, which listen and are not started. Raises SettingsError."""
        return [*self._public(), *self._edge()]

    def _public(self) -> Iterator[grpc.aio.Server]:
        """Gives what serves typed calls, if anybody can make one."""
        address, socket = self._part.address, self._part.socket("grpc")
        secret = self._settings.edge_secret
        if address is None and socket is None:
            return
        server = _grpc_server(self._settings.grpc_max_request_bytes)
        server.add_generic_rpc_handlers(
            tuple(typed.handlers(self._servicers, self._identify, self._rates))
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection:
            names = [*self._servicers, "grpc.health.v1.Health", reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server, pool=_public_descriptors())
        if secret is not None:
            hidden = self._edge_handlers(self._servicers, self._identify, self._rates)
            known = [EdgeOnly(each, secret.get_secret_value()) for each in hidden]
            server.add_generic_rpc_handlers(tuple(known))
        if address is not None:
            _bind(server, address, _credentials(self._settings))
        if socket is not None:
            _bind_socket(server, socket)
        yield server

    def _edge(self) -> Iterator[grpc.aio.Server]:
        """Gives what serves REST on a socket, if there is one."""
        if (socket := self._part.socket("edge")) is None:
            return
        # Envoy has bounded the body, and answered in OpenAI's form.
        server = _grpc_server(GROWTH * self._settings.max_body_bytes, *EDGE_OPTIONS)
        handlers = self._edge_handlers(self._servicers, self._identify, self._rates)
        server.add_generic_rpc_handlers(tuple(handlers))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _bind_socket(server, socket)
        yield server


def _grpc_server(max_request: int, *options: tuple[str, Any]) -> grpc.aio.Server:
    """Returns a server that takes requests of up to so many bytes."""
    limit = ("grpc.max_receive_message_length", max_request)
    return grpc.aio.server(options=[*OPTIONS, limit, *options])


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Returns what makes the public server speak TLS, if it is to."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificate = Certificate(settings.tls_cert, settings.tls_key)
    return server_credentials(certificate, settings.tls_client_ca)


def _bind(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None
) -> None:
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError:
        raise SettingsError(f"ASSISTANTS_GRPC_ADDRESS: {address} cannot be listened on") from None


def _bind_socket(server: grpc.aio.Server, path: Path) -> None:
    # What a killed server has left; the lock on the data directory says that none is alive.
    path.unlink(missing_ok=True)
    _bind(server, f"unix:{path.absolute()}")


def _public_descriptors() -> DescriptorPool:
    """Returns the descriptors that reflection shows: the .proto files' own, not the bindings'."""
    pool = DescriptorPool()
    api = Path(assistants.v1.__path__[0]) / "api.binpb"
    for file in FileDescriptorSet.FromString(api.read_bytes()).file:
        pool.Add(file)
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
