"""A scripted server of embeddings."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Reply = Callable[[list[str]], web.Response | Awaitable[web.Response]]


def vector(text: str) -> list[float]:
    """A vector that tells a text: how often it has each of four letters, and its length."""
    return [*(float(text.count(letter)) for letter in "aeiu"), 1.0]


def reply(texts: list[str]) -> web.Response:
    """What a server answers that takes everything; not in the order of the texts."""
    data = [{"index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
    return web.json_response({"object": "list", "data": data[::-1], "model": "m"})


def refusing(status: int, **headers: str) -> Callable[[list[str]], web.Response]:
    """An answer with an error."""
    return lambda _: web.Response(status=status, text='{"error": "no"}', headers=headers)


class EmbeddingServer:
    """Answers each request by the next reply of the script, and by `usual` at its end."""

    def __init__(self, *script: Reply, usual: Reply = reply) -> None:
        self._script = list(script)
        self._usual = usual
        self._runner: web.AppRunner | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.base_url = ""

    async def __aenter__(self) -> "EmbeddingServer":
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/embeddings", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        found = (self._script.pop(0) if self._script else self._usual)(body["input"])
        return found if isinstance(found, web.Response) else await found
