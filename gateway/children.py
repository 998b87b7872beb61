"""What commands start beside servers, Envoy and the model, and the directory that they hold."""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import envoy
from service.errors import SettingsError
from service.models.client import ChatModel
from service.models.embedded import EmbeddedModel
from service.process.child import Child, ChildError
from service.process.probe import http_status
from service.settings import Settings

NOWHERE = "http://model.invalid/v1"
"""The model server of who executes no runs, and asks nobody."""


async def start(child: Child | EmbeddedModel) -> None:
    """Starts a child. Raises SettingsError where it cannot be started."""
    try:
        await child.start()
    except ChildError as error:
        raise SettingsError(str(error)) from error


async def healthz(settings: Settings) -> int | None:
    """Returns the status of Envoy's `/healthz`, or None where nothing answers."""
    return await http_status(settings.http_address, "/healthz", tls=settings.tls_cert is not None)


@contextlib.asynccontextmanager
async def running_envoy(settings: Settings, config: Path) -> AsyncIterator[None]:
    """Runs Envoy with a configuration that was written. Raises SettingsError."""

    async def ready() -> bool:
        # Any answer will do: before the server serves it is 503.
        return await healthz(settings) is not None

    child = Child("envoy", envoy.command(config), ready=ready, shares_stdout=True)
    try:
        await start(child)
        yield
    finally:
        await child.stop()


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Where the model is; for the embedded one also what it is like."""

    url: str
    context: int | None = None
    slots: int | None = None
    """Answers at once, if there is a limit."""
    options: dict[str, Any] | None = None
    functions: bool = True
    models: Sequence[str] = ()


@contextlib.asynccontextmanager
async def model_server(settings: Settings, *, works: bool = True) -> AsyncIterator[ModelServer]:
    """Gives the model server of the settings, or the embedded one, which it runs.

    Who executes no runs needs none. Raises SettingsError.
    """
    if settings.model_base_url is not None:
        yield ModelServer(str(settings.model_base_url), settings.model_context_tokens)
    elif not works:
        yield ModelServer(NOWHERE)
    else:
        embedded = EmbeddedModel(settings.data_dir)
        try:
            await start(embedded)
            context = settings.model_context_tokens or embedded.context
            yield ModelServer(
                embedded.base_url,
                context,
                embedded.slots,
                embedded.options,
                functions=embedded.calls_functions,
                models=embedded.models,
            )
        finally:
            await embedded.stop()


@contextlib.asynccontextmanager
async def chat_model(settings: Settings, server: ModelServer) -> AsyncIterator[ChatModel]:
    """Gives a client of the model server."""
    model = ChatModel(
        server.url,
        settings.model_api_key.get_secret_value(),
        settings.model_idle_timeout,
        context=server.context,
        slots=server.slots,
        options=server.options,
        functions=server.functions,
        models=server.models,
        quirks=settings.model_quirks,
    )
    try:
        yield model
    finally:
        await model.close()


@contextlib.contextmanager
def data_directory(path: Path) -> Iterator[None]:
    """Makes the directory and holds it. Raises SettingsError where another server holds it."""
    make_directory(path)
    try:
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


def make_directory(path: Path) -> None:
    """Makes the data directory. Raises SettingsError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"ASSISTANTS_DATA_DIR: {path}: {error.strerror}") from None
