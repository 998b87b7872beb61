"""Envoy by itself, before a server that only notes what it is sent."""

import contextlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway import descriptor, envoy
from service.settings import Settings
from tests.support.stack import free_address


class Recorder(grpc.GenericRpcHandler):
    """Answers every call of the API with nothing, and keeps its metadata."""

    def __init__(self) -> None:
        """Has had no calls yet."""
        self.calls: list[tuple[str, dict[str, str | bytes]]] = []

    def service(self, details: Any) -> Any:
        """Returns the handler of a call."""
        if not details.method.startswith("/assistants."):
            return None
        self.calls.append((details.method, dict(details.invocation_metadata)))
        if not details.method.startswith(f"/{descriptor.REST_PACKAGE}."):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
        body = HttpBody(content_type="application/json", data=b"{}").SerializeToString()
        return grpc.unary_unary_rpc_method_handler(lambda request, context: body)


@contextlib.contextmanager
def recording(directory: Path, **settings: Any) -> Iterator[tuple[Settings, Recorder]]:
    """Gives the settings of an Envoy that runs, and what notes the calls that it passes on."""
    given = Settings(data_dir=directory, http_address=free_address(), **settings)
    recorder = Recorder()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((recorder,))
    healthy = health.HealthServicer()
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for name in ("edge", "grpc"):
        server.add_insecure_port(f"unix:{directory / name}.sock")
    server.start()
    process = subprocess.Popen(envoy.command(envoy.write(given)))
    try:
        yield given, recorder
    finally:
        process.terminate()
        process.wait()
        server.stop(None).wait()
