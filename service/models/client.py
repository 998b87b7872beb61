"""The client of the chat model: any OpenAI-compatible `/chat/completions`, always streamed.

The run engine asks it for one answer at a time; what servers do differently is settled in
`service.models.chunks`, what can go wrong on the way is settled here.
"""

import ipaddress
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import structlog

from service.models.chunks import (
    BROKEN_OFF,
    NO_ANSWER,
    CallDelta,
    Chunk,
    ErrorCode,
    Finished,
    ModelError,
    Reader,
    RefusalDelta,
    TextDelta,
    error_text,
)

__all__ = [
    "CallDelta",
    "ChatModel",
    "Chunk",
    "Finished",
    "ModelError",
    "RefusalDelta",
    "TextDelta",
]

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds that a connection to the model server may take."""

MAX_MESSAGE = 1000
"""Characters of a model server's error message that are passed on."""

MAX_CONNECTIONS = 1000

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


class ChatModel:
    """A chat-completions endpoint.

    `base_url` goes up to and with its `/v1`. `idle_timeout` is in seconds: a server that sends no
    byte for so long, before its answer or within, is taken for dead.
    """

    def __init__(self, base_url: str, api_key: str, idle_timeout: float) -> None:
        """Connects to nothing yet."""
        self._api_key = api_key
        self._idle_timeout = idle_timeout
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=100)
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            timeout=httpx2.Timeout(idle_timeout, connect=min(CONNECT_TIMEOUT, idle_timeout)),
            max_retries=2,
            http_client=openai.DefaultAsyncHttpxClient(
                transport=_Transport(limits=limits),
                limits=limits,
                # A proxy from the environment has no way to a server on this machine.
                trust_env=not _is_loopback(base_url),
            ),
        )

    async def stream(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Yields the answer as it comes, and Finished once, last.

        `request` holds chat-completions parameters, passed on as they are. Raises ModelError.
        Closing the generator closes the connection at once, which stops the model.
        """
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        reader = Reader()
        try:
            stream = await self._client.post(
                "/chat/completions",
                body=body,
                cast_to=object,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
            try:
                async for event in stream:
                    for piece in reader.read(event):
                        yield piece
            except openai.APIConnectionError:
                # All that can be missing after the end of the answer is its usage.
                if reader.reason is None:
                    raise
            finally:
                await stream.close()
            end = reader.finish()
        except ModelError as error:
            raise self._failure(error.code, error.message, error) from error
        except (openai.OpenAIError, ValueError) as error:
            raise self._model_error(error) from error
        yield end

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()

    def _model_error(self, error: Exception) -> ModelError:
        """Returns what a run may tell of an error, and logs the rest."""
        match error:
            case openai.APIStatusError(status_code=401 | 403):
                # What servers say here is about the key, and speaks to the operator.
                message = "The model server refuses this server's API key."
                return self._failure("server_error", message, error)
            case openai.APIStatusError(status_code=status):
                message = error_text(error.body) or f"The model server answered {status}."
                return self._failure(_code(status), message, error)
            case openai.APITimeoutError():
                message = f"The model server was silent for {self._idle_timeout:g} seconds."
            case openai.APIConnectionError():
                message = "The connection to the model server failed."
            case openai.APIError():
                message = error_text(error.body) or BROKEN_OFF
            case _:
                message = NO_ANSWER
        return self._failure("server_error", message, error)

    def _failure(self, code: ErrorCode, message: str, error: Exception) -> ModelError:
        status = getattr(error, "status_code", None)
        cause = self._presentable(str(error.__cause__ or error))
        log.warning("model failed", code=code, status=status, cause=cause)
        return ModelError(code, self._presentable(message))

    def _presentable(self, text: str) -> str:
        """Returns a text without URLs and our key, on one line, not too long."""
        text = _URL.sub("[URL]", text)
        if len(self._api_key) >= 8:
            text = text.replace(self._api_key, "[key]")
        return " ".join(text.split())[:MAX_MESSAGE]


class _Transport(httpx2.AsyncHTTPTransport):
    """Gives a silent server up at once: the package would ask it again, and wait as long again."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await super().handle_async_request(request)
        except httpx2.ReadTimeout as error:
            raise openai.APITimeoutError(request) from error


def _code(status: int) -> ErrorCode:
    match status:
        case 429:
            return "rate_limit_exceeded"
        case 400 | 422:
            return "invalid_prompt"
        case _:
            return "server_error"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
