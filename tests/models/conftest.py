import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.models.client import ChatModel
from tests.support.model_server import ModelServer
from tests.support.models.raw_server import RawServer, raw_server

KEY = "sk-secret-0123456789"


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    idle_timeout: float = 60,
) -> AsyncIterator[ChatModel]:
    """Gives the client of a server that treats each connection so."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        model = ChatModel(f"http://127.0.0.1:{port}/v1", KEY, idle_timeout=idle_timeout)
        try:
            yield model
        finally:
            await model.close()


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    async with raw_server() as server:
        yield server


@pytest.fixture
async def odd_model(raw: RawServer) -> AsyncIterator[ChatModel]:
    """The client of the raw server. Its idle timeout is for tests that wait for it."""
    model = ChatModel(raw.base_url, KEY, idle_timeout=0.5)
    yield model
    await model.close()


@pytest.fixture
async def model(models: ModelServer) -> AsyncIterator[ChatModel]:
    """The client of the scripted model server."""
    model = ChatModel(models.base_url, KEY, idle_timeout=60)
    yield model
    await model.close()
