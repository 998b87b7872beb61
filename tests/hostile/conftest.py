"""A server for what would disturb other tests: runs without a script, streams by the thousand."""

from collections.abc import Iterator

import pytest

from tests.support.model_server import ModelServer
from tests.support.stack import Stack, serving


@pytest.fixture(scope="session")
def island_models() -> Iterator[ModelServer]:
    """The scripted models of `island`. What they have no script for is no problem."""
    server = ModelServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def island(island_models: ModelServer) -> Iterator[Stack]:
    """A server of its own, which works on any number of runs at once."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": island_models.base_url,
        "ASSISTANTS_WORKER_CONCURRENCY": "1000",
        "ASSISTANTS_SHUTDOWN_GRACE": "0",
    }
    with serving(env) as stack:
        yield stack
