"""The wiring of a server: storage, engine, servicers, and what they listen on."""

import asyncio
import contextlib
import gc
from collections.abc import Iterable, Sequence

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from service.access import Identify, Keyring, anybody
from service.api.services import servicers
from service.errors import SettingsError
from service.files.blobs.contents import open_store
from service.files.library import Library, embedder_of
from service.listening import EdgeHandlers, Listening, Part
from service.models.client import ChatModel
from service.models.rewriting import rewriting
from service.process import metrics, tracing
from service.rates import Rates
from service.runner.connection import NatsSettings
from service.runner.engine import Engine
from service.runner.events.bus import EventBus
from service.runner.events.jetstream import JetStreamBus
from service.runner.events.memory import MemoryBus
from service.runner.images import Images
from service.runner.jetstream import JetStream
from service.runner.limits import Limits
from service.runner.queue.jetstream import JetStreamQueue
from service.runner.queue.memory import MemoryQueue
from service.runner.queue.queue import RunQueue
from service.runner.tools.code_interpreter import CodeInterpreter
from service.runner.tools.file_search import FileSearch, SearchLimits
from service.runner.tools.files import Files
from service.runner.tools.registry import Registry
from service.runner.tools.session_register import SessionRegister
from service.runner.tools.tool import ServerTool
from service.settings import Settings
from storage import Storage, ids
from storage.errors import Unreachable

NOTICE_SECONDS = 1.0
"""How long gateways may take to notice that a server drains: they ask it four times a second."""

LAST_EVENTS_SECONDS = 1.0
"""How long readers may take to read the ends of their streams when the server stops."""

GARBAGE = 20_000
"""New objects after which the garbage collector looks for cycles. Calls leave few behind: at each
700th, as Python does, looking takes a twentieth of a run's time.
"""


class Server:
    """One server: the part of `assistants serve` that is Python."""

    def __init__(
        self,
        settings: Settings,
        part: Part,
        model: ChatModel,
        edge_handlers: EdgeHandlers,
        tools: Iterable[ServerTool] = (),
    ) -> None:
        """Wires the server, which `serve` starts. Runs get `model`, its own tools and `tools`."""
        self._settings = settings
        self._part = part
        name = ids.new_id("server")
        self._nats = _nats(settings)
        database = tracing.database(
            settings.effective_database_url,
            connections=settings.database_connections,
            engine_connections=settings.database_engine_connections,
        )
        self._storage = Storage(
            database,
            lease_seconds=settings.lease_seconds,
            quotas=settings.quotas,
            # Without NATS, no run gets from one server to another in time.
            server=name if self._nats is not None else None,
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
            max_bytes=settings.max_file_bytes,
        )
        search = FileSearch(
            self._storage.vector_stores,
            self._library.search,
            model.calls_functions,
            settings.file_search,
            SearchLimits(settings.file_search_results, settings.file_search_tokens),
        )
        self._interpreter = CodeInterpreter(
            settings.code_interpreter,
            self._storage.threads,
            Files(self._storage, self._blobs),
            SessionRegister(self._storage.sessions, name),
        )
        self._engine = Engine(
            self._storage,
            model,
            Registry([search, self._interpreter, *tools]),
            _bus(settings, self._nats),
            _queue(settings, self._nats, name, takes=part.works),
            # Who waits for the model waits in the queue, not for a first byte that is late.
            concurrency=min(filter(None, (settings.worker_concurrency, model.slots)))
            if part.works
            else 0,
            limits=Limits(
                settings.lease_seconds, settings.model_retries, settings.model_prompt_bytes
            ),
            images=Images(self._storage.files, self._blobs),
        )
        self._servicers = servicers(self._storage, self._engine, settings, self._library)
        self._health = health_aio.HealthServicer()
        self._listening = Listening(
            settings,
            part,
            self._servicers,
            self._identify,
            self._rates,
            edge_handlers,
            self._health,
        )

    async def serve(self, serving: asyncio.Event, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains; sets `serving` once calls are answered.

        Raises SettingsError where an address or the database cannot be had. Raises whatever ends
        the engine.
        """
        servers = self._listening.servers()
        try:
            await self._open_database()
            if self._nats is not None:
                await self._nats.open()
            await self._engine.open()
            self._interpreter.start()
            for server in servers:
                await server.start()
            await self._set_health(True)
            engine = asyncio.create_task(self._engine.work(), name="engine")
            watching = asyncio.create_task(self._watch(), name="keys, database and NATS")
            library = asyncio.create_task(
                self._library.work(indexes=self._part.works), name="library"
            )
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
            await self._drain(servers, engine)
            for task in (watching, library):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        finally:
            for server in servers:
                await server.stop(None)
            await self._interpreter.close()
            await self._library.close()
            await self._blobs.close()
            if self._nats is not None:
                await self._nats.close()
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

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._keyring is not None:
                group.create_task(self._keyring.watch(), name="keys")
            if self._nats is not None:
                group.create_task(self._show_nats(self._nats), name="NATS")
            # In their order: each is a step of its own.
            found: asyncio.Queue[bool] = asyncio.Queue()
            group.create_task(self._storage.database.watch(found.put_nowait), name="database")
            while True:
                await self._set_health(await found.get())

    async def _show_nats(self, nats: JetStream) -> None:
        """Has health say whether NATS is there, as the service `nats`. Without it, calls go on."""
        while True:
            await self._health.set("nats", health_pb2.HealthCheckResponse.SERVING)
            await nats.wait_down()
            await self._health.set("nats", health_pb2.HealthCheckResponse.NOT_SERVING)
            await nats.wait_up()

    async def _set_health(self, serving: bool) -> None:
        metrics.DATABASE_UP.set(serving)
        status = health_pb2.HealthCheckResponse
        for name in ("", *self._servicers):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def _drain(self, servers: Sequence[grpc.aio.Server], engine: asyncio.Task[None]) -> None:
        await self._health.enter_graceful_shutdown()
        grace = self._settings.shutdown_grace
        if self._settings.edge_secret is not None:
            # What they send meanwhile is answered, or it would be lost on its way.
            await asyncio.sleep(min(NOTICE_SECONDS, grace))
        # stop() refuses new calls at once. Streams end with their runs, or by the end of the drain.
        limit = grace + LAST_EVENTS_SECONDS
        stops = [asyncio.create_task(each.stop(limit)) for each in servers]
        engine.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await engine
        finally:
            await self._engine.drain(grace)
            # All that is left now is who does not read: nothing more comes of waiting for them.
            if stops:
                await asyncio.wait(stops, timeout=LAST_EVENTS_SECONDS)
            await asyncio.gather(*(each.stop(None) for each in servers), *stops)


def _nats(settings: Settings) -> JetStream | None:
    """Returns the connection to NATS, if there is to be one."""
    if settings.nats_url is None:
        return None
    return JetStream(
        NatsSettings(
            servers=tuple(url.strip() for url in settings.nats_url.split(",")),
            credentials=settings.nats_credentials,
            ca=settings.nats_ca,
            prefix=settings.nats_prefix,
            replicas=settings.nats_replicas,
        )
    )


def _bus(settings: Settings, nats: JetStream | None) -> EventBus:
    if nats is None:
        return MemoryBus(max_bytes=settings.events_max_bytes)
    return JetStreamBus(
        nats,
        lifetime=settings.run_lifetime,
        max_bytes=settings.events_max_bytes,
        stream_bytes=settings.nats_events_max_bytes,
    )


def _queue(settings: Settings, nats: JetStream | None, server: str, *, takes: bool) -> RunQueue:
    if nats is None:
        return MemoryQueue(server, takes=takes)
    return JetStreamQueue(
        nats,
        server,
        takes=takes,
        lifetime=settings.run_lifetime,
        stream_bytes=settings.nats_queue_max_bytes,
    )
