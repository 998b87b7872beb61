"""Engines on real storage, with the scripted model behind them."""

from collections.abc import AsyncIterator

import pytest
import structlog

from service.models.client import ChatModel
from storage import Storage
from tests.model_server import ModelServer
from tests.runner.engines import Engines


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """As a server logs: by default structlog would take seconds for each exception."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture
async def chat_model(models: ModelServer) -> AsyncIterator[ChatModel]:
    """The client of the scripted model server."""
    model = ChatModel(models.base_url, "none", idle_timeout=60)
    yield model
    await model.close()


@pytest.fixture
async def engines(storage: Storage, chat_model: ChatModel) -> AsyncIterator[Engines]:
    """Engines on the same database: servers, as far as runs are concerned."""
    engines = Engines(storage, chat_model)
    yield engines
    await engines.stop()
