"""The HTTP client of model servers, whose idle connections may be closed at any time."""

from typing import Any

import httpx2
import openai


class _Trace:
    """Whether a request has opened a connection of its own."""

    def __init__(self) -> None:
        self.opened = False

    async def __call__(self, name: str, info: object) -> None:
        self.opened = self.opened or name.startswith("connection.")


class Client(openai.DefaultAsyncHttpxClient):
    """Sends a request again if the connection that it went out on was kept open, but is gone.

    Servers may close such a connection at any time, llama.cpp's right after a streamed answer. On a
    connection that was opened for it, a request is sent once.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Sends a request."""
        while True:
            trace = _Trace()
            request.extensions = {**request.extensions, "trace": trace}
            try:
                return await super().send(request, **options)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if trace.opened:
                    raise
