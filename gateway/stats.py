"""What Prometheus reads of a gateway: Envoy's own metrics, `envoy_…`."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from service.errors import SettingsError

STATS = "/stats/prometheus?usedonly"
"""Where Envoy's admin interface has them."""


@contextlib.asynccontextmanager
async def served(address: str, admin: Path) -> AsyncIterator[None]:
    """Serves the metrics of the Envoy with this admin socket at HOST:PORT, `/metrics`.

    Raises SettingsError.
    """
    host, _, port = address.rpartition(":")
    connector = aiohttp.UnixConnector(str(admin))
    async with aiohttp.ClientSession("http://envoy", connector=connector) as envoy:

        async def metrics(request: web.Request) -> web.Response:
            async with envoy.get(STATS) as answer:
                return web.Response(text=await answer.text())

        application = web.Application()
        application.router.add_get("/metrics", metrics)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, host.strip("[]"), int(port))
        try:
            try:
                await site.start()
            except OSError as error:
                reason = f"ASSISTANTS_METRICS_ADDRESS: {address}: {error.strerror}"
                raise SettingsError(reason) from None
            yield
        finally:
            await runner.cleanup()
