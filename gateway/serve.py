"""The commands that serve: all of the service in one process with its children, or a part of it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from gateway import addresses, children, drain, envoy, rest, stats, tls
from service.errors import SettingsError
from service.listening import Part
from service.models.client import ChatModel
from service.process import metrics, tracing
from service.server import Server
from service.settings import Settings


async def serve(settings: Settings, *, insecure: bool = False, works: bool = True) -> None:
    """Runs a server with its Envoy and its model, until SIGTERM or SIGINT. Raises SettingsError.

    Without keys, addresses must be loopback, unless it is to be `insecure`. One that does not
    execute runs leaves them to workers on the same database.
    """
    stop = stop_signals()
    listening = addresses.listening(settings, http=True, grpc=True)
    addresses.check(listening, settings, insecure=insecure)
    part = Part(settings.grpc_address, settings.data_dir, works)
    # Ends in the other order: first the server drains, through Envoy and with the model at hand.
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(children.data_directory(settings.data_dir))
        stack.enter_context(tracing.exporting())
        serve_metrics(settings)
        await stack.enter_async_context(tls.kept_up_to_date(settings))
        config = envoy.write(settings, [part])
        await stack.enter_async_context(children.running_envoy(settings, config))
        model = await stack.enter_async_context(_model(settings, works=works))
        await run_server(settings, part, model, stop, partial(greet, settings))


async def serve_grpc(settings: Settings, *, insecure: bool = False, works: bool = True) -> None:
    """Runs a server without an Envoy, for gateways and callers of gRPC. Raises SettingsError."""
    stop = stop_signals()
    listening = addresses.listening(settings, http=False, grpc=True)
    addresses.check(listening, settings, insecure=insecure)
    part = Part(settings.grpc_address, works=works)
    await _run_without_envoy(settings, part, stop, f"gRPC on {settings.grpc_address}")


async def work(settings: Settings) -> None:
    """Runs a worker, which executes runs and is called by nobody. Raises SettingsError."""
    stop = stop_signals()
    listening = addresses.listening(settings, http=False, grpc=False)
    addresses.check(listening, settings, insecure=False)
    await _run_without_envoy(settings, Part(), stop, "Executes runs.")


async def _run_without_envoy(
    settings: Settings, part: Part, stop: asyncio.Event, message: str
) -> None:
    """Runs a server that has no Envoy of its own; prints the message when it is ready."""
    async with contextlib.AsyncExitStack() as stack:
        _own_files(stack, settings, works=part.works)
        stack.enter_context(tracing.exporting())
        serve_metrics(settings)
        model = await stack.enter_async_context(_model(settings, works=part.works))
        await run_server(settings, part, model, stop, partial(say, message))


async def serve_gateway(settings: Settings, *, insecure: bool = False) -> None:
    """Runs Envoy alone, before the servers of the settings. Raises SettingsError."""
    stop = stop_signals()
    if not settings.grpc_upstreams:
        raise SettingsError("ASSISTANTS_GRPC_UPSTREAMS: not set, and a gateway has no other server")
    listening = addresses.listening(settings, http=True, grpc=False)
    addresses.check(listening, settings, insecure=insecure)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(children.data_directory(settings.data_dir))
        await stack.enter_async_context(tls.kept_up_to_date(settings))
        config = envoy.write(settings, admin=True)
        await stack.enter_async_context(children.running_envoy(settings, config))
        if settings.metrics_address is not None:
            served = stats.served(settings.metrics_address, envoy.admin_socket(settings))
            await stack.enter_async_context(served)
        async with meanwhile(partial(greet, settings)):
            await stop.wait()
        await drain.drain(envoy.admin_socket(settings), settings.shutdown_grace)


def stop_signals() -> asyncio.Event:
    """Returns what SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def serve_metrics(settings: Settings) -> None:
    """Serves the metrics of this process, if they have an address. Raises SettingsError."""
    if settings.metrics_address is not None:
        metrics.serve(settings.metrics_address)


async def run_server(
    settings: Settings,
    part: Part,
    model: ChatModel,
    stop: asyncio.Event,
    greeting: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Runs a server until it is to stop; greets once it serves, if it is to."""
    edge = partial(rest.handlers, keep_alive=settings.keep_alive_seconds)
    serving = asyncio.Event()

    async def once_it_serves() -> None:
        await serving.wait()
        if greeting is not None:
            await greeting()

    async with meanwhile(once_it_serves):
        await Server(settings, part, model, edge).serve(serving, stop)


async def say(text: str) -> None:
    """Prints a line for whoever has started the command."""
    print(text, flush=True)


async def greet(settings: Settings) -> None:
    """Prints how the service is called, once Envoy says that it serves."""
    while await children.healthz(settings) != 200:  # noqa: ASYNC110 (another process)
        await asyncio.sleep(0.05)
    scheme, plaintext = ("http", "-plaintext ") if settings.tls_cert is None else ("https", "")
    key = "-H 'authorization: Bearer sk-…' " if settings.auth == "keys" else ""
    await say(
        f"REST on {scheme}://{settings.http_address}/v1, gRPC on {settings.grpc_address}\n"
        f"  curl {key}{scheme}://{settings.http_address}/v1/assistants\n"
        f"  grpcurl {plaintext}{key}{settings.grpc_address} "
        "assistants.v1.AssistantsService/ListAssistants"
    )


@contextlib.asynccontextmanager
async def meanwhile(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Does something beside, as long as this lasts."""
    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _model(settings: Settings, *, works: bool) -> AsyncIterator[ChatModel]:
    async with (
        children.model_server(settings, works=works) as server,
        children.chat_model(settings, server) as model,
    ):
        yield model


def _own_files(stack: contextlib.AsyncExitStack, settings: Settings, *, works: bool) -> None:
    """Holds the data directory for the embedded model's files; else, many may share a database."""
    if works and settings.model_base_url is None:
        stack.enter_context(children.data_directory(settings.data_dir))
    elif settings.database_url is None:
        children.make_directory(settings.data_dir)
