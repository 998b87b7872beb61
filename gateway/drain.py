"""The end of a gateway: Envoy takes no new calls, and those that it has go on to their ends."""

import asyncio
from pathlib import Path

import aiohttp

from gateway.envoy import DRAIN_SECONDS

POLL_SECONDS = 0.1
"""How often Envoy is asked for the calls that it has left."""

CALLS = "http.http.downstream_rq_active"
"""Envoy's name for how many there are."""


async def drain(admin: Path, grace: float) -> None:
    """Drains the Envoy with this admin socket; its calls have `grace` seconds to end.

    `/healthz` fails at once, so that whoever balances over gateways turns to others. For a moment,
    calls are taken all the same: not everybody has noticed yet.
    """
    connector = aiohttp.UnixConnector(str(admin))
    async with aiohttp.ClientSession("http://envoy", connector=connector) as envoy:
        for order in ("/healthcheck/fail", "/drain_listeners?graceful&skip_exit"):
            async with envoy.post(order, raise_for_status=True):
                pass
        await asyncio.sleep(min(DRAIN_SECONDS, grace))
        until = asyncio.get_running_loop().time() + grace
        while await _calls(envoy) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 (Envoy's)
            await asyncio.sleep(POLL_SECONDS)


async def _calls(envoy: aiohttp.ClientSession) -> int:
    async with envoy.get("/stats", params={"filter": f"^{CALLS}$"}) as answer:
        text = await answer.text()
    return int(text.rpartition(":")[2])
