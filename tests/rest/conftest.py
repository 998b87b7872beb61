"""OpenAI's own clients, on a wire that checks every answer."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from tests.support.rest.wire import Wire
from tests.support.stack import Stack


@pytest.fixture
def wire() -> Iterator[Wire]:
    """What the test's client and the server send each other, checked against the specification."""
    wire = Wire()
    yield wire
    wire.check()


@pytest.fixture
def client(server: Stack, wire: Wire) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with connect(server, wire) as client:
        yield client


@pytest.fixture
async def async_client(server: Stack, wire: Wire) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own asynchronous client."""
    http_client = openai.DefaultAsyncHttpxClient(transport=wire.async_transport())
    async with openai.AsyncOpenAI(
        base_url=server.base_url, api_key="test", max_retries=0, http_client=http_client
    ) as client:
        yield client


def connect(stack: Stack, wire: Wire) -> openai.OpenAI:
    """Returns a client of the stack, to be closed by the caller."""
    http_client = openai.DefaultHttpxClient(transport=wire.sync_transport())
    return openai.OpenAI(
        base_url=stack.base_url, api_key="test", max_retries=0, http_client=http_client
    )
