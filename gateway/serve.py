"""The whole of `assistants serve`: the gRPC server, Envoy before it, and the model behind it."""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

from gateway import addresses, envoy, rest, tls
from service.errors import SettingsError
from service.models.client import ChatModel
from service.models.embedded import EmbeddedModel
from service.process import metrics, tracing
from service.process.certificates import Certificate
from service.process.child import Child, ChildError
from service.process.probe import http_status
from service.server import Server
from service.settings import Settings


async def run(settings: Settings, *, insecure: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Raises SettingsError.

    Without keys, addresses must be loopback, unless it is to be `insecure`: whoever reaches them
    may do everything.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Ends in the other order: first the server drains, through Envoy and with the model at hand.
    async with contextlib.AsyncExitStack() as stack:
        if settings.auth != "keys" and not insecure:
            addresses.check_loopback(settings)
        addresses.check_free(settings)
        stack.enter_context(_data_directory(settings.data_dir))
        stack.enter_context(tracing.exporting())
        if settings.metrics_address is not None:
            metrics.serve(settings.metrics_address)
        await stack.enter_async_context(_certificate(settings))
        await stack.enter_async_context(_envoy(settings))
        model = await stack.enter_async_context(_model(settings))
        edge = partial(rest.handlers, keep_alive=settings.keep_alive_seconds)
        await _serve(Server(settings, model, edge), settings, stop)


async def _serve(server: Server, settings: Settings, stop: asyncio.Event) -> None:
    serving = asyncio.Event()
    task = asyncio.create_task(server.serve(serving, stop), name="server")
    greeting = asyncio.create_task(_greet(serving, settings), name="greeting")
    try:
        await task
    finally:
        greeting.cancel()
        await asyncio.gather(greeting, return_exceptions=True)


async def _greet(serving: asyncio.Event, settings: Settings) -> None:
    await serving.wait()
    while await _healthz(settings) != 200:  # noqa: ASYNC110 (another process)
        await asyncio.sleep(0.05)
    scheme, plaintext = ("http", "-plaintext ") if settings.tls_cert is None else ("https", "")
    key = "-H 'authorization: Bearer sk-…' " if settings.auth == "keys" else ""
    print(
        f"REST on {scheme}://{settings.http_address}/v1, gRPC on {settings.grpc_address}\n"
        f"  curl {key}{scheme}://{settings.http_address}/v1/assistants\n"
        f"  grpcurl {plaintext}{key}{settings.grpc_address} "
        "assistants.v1.AssistantsService/ListAssistants",
        flush=True,
    )


async def _healthz(settings: Settings) -> int | None:
    return await http_status(settings.http_address, "/healthz", tls=settings.tls_cert is not None)


@contextlib.asynccontextmanager
async def _certificate(settings: Settings) -> AsyncIterator[None]:
    """Keeps Envoy's copy of the certificate up to date, if there is one."""
    if settings.tls_cert is None or settings.tls_key is None:
        yield
        return
    certificate = Certificate(settings.tls_cert, settings.tls_key)
    tls.write(settings, certificate.pair)
    watching = asyncio.create_task(tls.watch(settings, certificate), name="certificate")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@contextlib.asynccontextmanager
async def _envoy(settings: Settings) -> AsyncIterator[None]:
    async def ready() -> bool:
        # Any answer will do: before the server serves it is 503.
        return await _healthz(settings) is not None

    child = Child("envoy", envoy.command(envoy.write(settings)), ready=ready, shares_stdout=True)
    try:
        await _start(child)
        yield
    finally:
        await child.stop()


@contextlib.asynccontextmanager
async def _model(settings: Settings) -> AsyncIterator[ChatModel]:
    """Gives the client of the configured model, or of the embedded one, which it starts."""
    async with contextlib.AsyncExitStack() as stack:
        key, silence = settings.model_api_key.get_secret_value(), settings.model_idle_timeout
        context, quirks = settings.model_context_tokens, settings.model_quirks
        if settings.model_base_url is not None:
            url = str(settings.model_base_url)
            model = ChatModel(url, key, silence, context=context, quirks=quirks)
        else:
            embedded = EmbeddedModel(settings.data_dir)
            stack.push_async_callback(embedded.stop)
            await _start(embedded)
            model = ChatModel(
                embedded.base_url,
                key,
                silence,
                context=context or embedded.context,
                slots=embedded.slots,
                options=embedded.options,
                quirks=quirks,
            )
        stack.push_async_callback(model.close)
        yield model


async def _start(child: Child | EmbeddedModel) -> None:
    try:
        await child.start()
    except ChildError as error:
        raise SettingsError(str(error)) from error


@contextlib.contextmanager
def _data_directory(path: Path) -> Iterator[None]:
    """Makes the directory and holds it. Raises SettingsError where another server holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"ASSISTANTS_DATA_DIR: {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"ASSISTANTS_DATA_DIR: another server holds {path}") from None
        yield
    finally:
        os.close(lock)
