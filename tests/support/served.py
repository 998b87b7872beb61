"""A server in this process, so that a test can reach into it."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from service.listening import Part
from service.models.client import ChatModel
from service.server import Server
from service.settings import Settings
from tests.support.grpc.stubs import Stubs
from tests.support.model_server import ModelServer
from tests.support.stack import free_address


@contextlib.asynccontextmanager
async def served(
    directory: Path, database_url: str, models: ModelServer, lease_seconds: float = 3600
) -> AsyncIterator[Stubs]:
    """Gives typed clients, whose calls are to be awaited. The server executes one run at once.

    By default no keep-alive comes in a test's way.
    """
    settings = Settings(
        data_dir=directory,
        database_url=database_url,
        grpc_address=free_address(),
        worker_concurrency=1,
        lease_seconds=lease_seconds,
        shutdown_grace=0,
        sandbox="off",
    )
    model = ChatModel(models.base_url, "none", idle_timeout=60)
    serving, stop = asyncio.Event(), asyncio.Event()
    server = Server(settings, Part(settings.grpc_address), model, lambda *_: [])
    work = asyncio.create_task(server.serve(serving, stop))
    try:
        async with asyncio.timeout(60):
            await serving.wait()
        async with grpc.aio.insecure_channel(settings.grpc_address) as channel:
            stubs: Any = Stubs
            yield stubs(channel)
    finally:
        stop.set()
        await work
        gc.unfreeze()
        await model.close()
