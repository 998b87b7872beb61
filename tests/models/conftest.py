from collections.abc import AsyncIterator

import pytest

from service.models.client import ChatModel
from tests.model_server import ModelServer
from tests.models.raw_server import RawServer, raw_server

KEY = "sk-secret-0123456789"


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
