"""A server in this process, so that what its database is asked can be counted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from service.models.client import ChatModel
from service.server import Server
from service.settings import Settings
from tests.grpc_face.stubs import Stubs
from tests.model_server import ModelServer
from tests.stack import free_address


@contextlib.asynccontextmanager
async def served(directory: Path, database_url: str, models: ModelServer) -> AsyncIterator[Stubs]:
    """Gives typed clients, whose calls are to be awaited. The server executes one run at once."""
    settings = Settings(
        data_dir=directory,
        database_url=database_url,
        grpc_address=free_address(),
        worker_concurrency=1,
        # No heartbeat comes in between.
        lease_seconds=3600,
    )
    model = ChatModel(models.base_url, "none", idle_timeout=60)
    serving, stop = asyncio.Event(), asyncio.Event()
    work = asyncio.create_task(Server(settings, model, lambda _: []).serve(serving, stop))
    try:
        async with asyncio.timeout(60):
            await serving.wait()
        async with grpc.aio.insecure_channel(settings.grpc_address) as channel:
            stubs: Any = Stubs
            yield stubs(channel)
    finally:
        stop.set()
        await work
        await model.close()
