"""The wiring of a server: storage, engine, servicers, and the two gRPC servers they stand behind.

The public server serves typed calls, health and reflection. The edge server serves the REST methods
of the same servicers, on a Unix socket that only Envoy uses, so that nobody else can speak as the
edge. The calls of both pass through the same chain (service/calls.py).
"""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import assistants.v1
import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.access import Identify, Keyring, anybody
from service.api import typed
from service.api.services import servicers
from service.errors import SettingsError
from service.files.blobs.contents import open_store
from service.files.library import Library, embedder_of
from service.models.client import ChatModel
from service.models.rewriting import rewriting
from service.process import tracing
from service.process.certificates import Certificate, server_credentials
from service.rates import Rates
from service.runner.engine import Engine
from service.runner.events.memory import MemoryBus
from service.runner.images import Images
from service.runner.limits import Limits
from service.runner.queue.memory import MemoryQueue
from service.runner.tools.code_interpreter import CodeInterpreter
from service.runner.tools.file_search import FileSearch, SearchLimits
from service.runner.tools.files import Files
from service.runner.tools.registry import Registry
from service.runner.tools.tool import ServerTool
from service.settings import Settings
from storage import Storage
from storage.errors import Unreachable

GROWTH = 16
"""How much larger a body can be as a message: JSON, ten times as `google.protobuf.Value`s."""

LAST_EVENTS_SECONDS = 1.0
"""How long readers may take to read the ends of their streams when the server stops."""

GARBAGE = 20_000
"""New objects after which the garbage collector looks for cycles. Calls leave few behind: at each
700th, as Python does, looking takes a twentieth of a run's time.
"""

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    # Bytes of a call's headers, above Envoy's limit for the same reason.
    ("grpc.max_metadata_size", 128 * 2**10),
    ("grpc.absolute_max_metadata_size", 256 * 2**10),
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


class Server:
    """One server: the part of `assistants serve` that is Python."""

    def __init__(
        self,
        settings: Settings,
        model: ChatModel,
        edge_handlers: EdgeHandlers,
        tools: Iterable[ServerTool] = (),
    ) -> None:
        """Wires the server, which `serve` starts. Runs get `model`, its own tools and `tools`."""
        self._settings = settings
        self._storage = Storage(
            tracing.database(settings.effective_database_url),
            lease_seconds=settings.lease_seconds,
            quotas=settings.quotas,
        )
        self._keyring = Keyring(self._storage.keys) if settings.auth == "keys" else None
        self._identify: Identify = self._keyring.identify if self._keyring else anybody
        self._rates = Rates(settings.rate_limit) if settings.rate_limit else None
        self._blobs = open_store(settings.blobs_url, settings.data_dir / "files")
        self._library = Library(
            self._storage,
            self._blobs,
            embedder_of(
                None if (url := settings.embeddings_base_url) is None else str(url),
                settings.embeddings_model,
                settings.embeddings_api_key.get_secret_value(),
            ),
            rewriting(model, settings.rewriting_model),
            concurrency=settings.indexing_concurrency,
            lease_seconds=settings.lease_seconds,
        )
        search = FileSearch(
            self._storage.vector_stores,
            self._library.search,
            model.calls_functions,
            settings.file_search,
            SearchLimits(settings.file_search_results, settings.file_search_tokens),
        )
        self._interpreter = CodeInterpreter(
            settings.code_interpreter, self._storage.threads, Files(self._storage, self._blobs)
        )
        self._engine = Engine(
            self._storage,
            model,
            Registry([search, self._interpreter, *tools]),
            MemoryBus(max_bytes=settings.events_max_bytes),
            MemoryQueue(),
            # Who waits for the model waits in the queue, not for a first byte that is late.
            concurrency=min(filter(None, (settings.worker_concurrency, model.slots))),
            limits=Limits(
                settings.lease_seconds, settings.model_retries, settings.model_prompt_bytes
            ),
            images=Images(self._storage.files, self._blobs),
        )
        self._servicers = servicers(self._storage, self._engine, settings, self._library)
        self._edge_handlers = edge_handlers
        self._health = health_aio.HealthServicer()

    async def serve(self, serving: asyncio.Event, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains; sets `serving` once calls are answered.

        Raises SettingsError where an address or the database cannot be had. Raises whatever ends
        the engine.
        """
        public, edge = self._public_server(), self._edge_server()
        try:
            await self._open_database()
            self._interpreter.start()
            await public.start()
            await edge.start()
            for name in ("", *self._servicers):
                await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
            engine = asyncio.create_task(self._engine.work(), name="engine")
            watching = asyncio.create_task(self._watch_keys(), name="keys")
            library = asyncio.create_task(self._library.work(), name="library")
            stopped = asyncio.create_task(stop.wait(), name="stop signal")
            # What is loaded by now stays: to look through it again and again would hold the loop
            # for a tenth of a second each time.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE)
            serving.set()
            await asyncio.wait(
                {engine, watching, library, stopped}, return_when=asyncio.FIRST_COMPLETED
            )
            stopped.cancel()
            await self._drain(public, edge, engine)
            for task in (watching, library):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        finally:
            await public.stop(None)
            await edge.stop(None)
            await self._interpreter.close()
            await self._library.close()
            await self._blobs.close()
            await self._storage.database.close()

    async def _open_database(self) -> None:
        secret = self._settings.bootstrap_key
        first_key = None if secret is None else secret.get_secret_value()
        try:
            await self._storage.database.migrate()
            await self._library.open()
            if self._settings.quota_messages is not None:
                await self._storage.counts.forget()
            if self._keyring is not None:
                await self._keyring.load(first_key)
        except Unreachable as error:
            raise SettingsError(f"ASSISTANTS_DATABASE_URL: {error}") from error

    async def _watch_keys(self) -> None:
        if self._keyring is not None:
            await self._keyring.watch()
        await asyncio.Event().wait()

    async def _drain(
        self, public: grpc.aio.Server, edge: grpc.aio.Server, engine: asyncio.Task[None]
    ) -> None:
        await self._health.enter_graceful_shutdown()
        grace = self._settings.shutdown_grace
        # stop() refuses new calls at once. Streams end with their runs, or by the end of the drain.
        limit = grace + LAST_EVENTS_SECONDS
        stops = [asyncio.create_task(each.stop(limit)) for each in (public, edge)]
        engine.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await engine
        finally:
            await self._engine.drain(grace)
            # All that is left now is who does not read: nothing more comes of waiting for them.
            await asyncio.wait(stops, timeout=LAST_EVENTS_SECONDS)
            await asyncio.gather(public.stop(None), edge.stop(None), *stops)

    def _public_server(self) -> grpc.aio.Server:
        server = _grpc_server(self._settings.grpc_max_request_bytes)
        server.add_generic_rpc_handlers(
            (*typed.handlers(self._servicers, self._identify, self._rates),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection:
            names = [*self._servicers, "grpc.health.v1.Health", reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server, pool=_public_descriptors())
        _bind(server, self._settings.grpc_address, _credentials(self._settings))
        _bind_socket(server, self._settings.grpc_socket)
        return server

    def _edge_server(self) -> grpc.aio.Server:
        # Envoy has bounded the body, and answered in OpenAI's form.
        server = _grpc_server(GROWTH * self._settings.max_body_bytes, *EDGE_OPTIONS)
        handlers = self._edge_handlers(self._servicers, self._identify, self._rates)
        server.add_generic_rpc_handlers(tuple(handlers))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _bind_socket(server, self._settings.edge_socket)
        return server


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
