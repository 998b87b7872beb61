"""Engines on real storage, with the scripted model behind them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from service.models.client import ChatModel
from service.models.tokens import TokenCounter
from storage import Storage
from storage.conversation import Context
from storage.tables import Run
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines
from tests.support.runs.prompts import Build, Messages, build_whole


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


@pytest.fixture
def tokens(chat_model: ChatModel) -> TokenCounter:
    """Estimates: the model server has no tokenizer."""
    return chat_model.tokens


@pytest.fixture
def build(tokens: TokenCounter) -> Build:
    """Builds prompts with estimates."""
    return lambda run, context: build_whole(run, context, tokens)


@pytest.fixture
def messages(build: Build) -> Messages:
    """Builds the messages of prompts."""

    async def messages(run: Run, context: Context) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await build(run, context))["messages"]
        return found

    return messages
