"""The list of models: how often its server is asked, and what callers get while it is away."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from service.api import catalog
from service.api.catalog import UNKNOWN, Catalog
from service.errors import ApiError
from service.models.client import ChatModel
from tests.models.conftest import KEY
from tests.support.waiting import SECONDS, until

FOREVER = 3600.0
FAILURES = [
    web.Response(status=503),
    web.Response(status=404, text="Not Found"),
    web.Response(text="no JSON"),
]


class Lister:
    """A server that lists its models, while it may."""

    def __init__(self) -> None:
        self.requests = 0
        self.names = ["one"]
        self.failure: web.Response | None = None
        self.free = asyncio.Event()
        self.free.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        await self.free.wait()
        if (failure := self.failure) is not None:
            return web.Response(status=failure.status, text=failure.text)
        return web.json_response({"data": [{"id": name} for name in self.names]})


@pytest.fixture
async def lister() -> Lister:
    return Lister()


@pytest.fixture
async def models(lister: Lister) -> AsyncIterator[Catalog]:
    """The models of the lister."""
    app = web.Application()
    app.router.add_get("/v1/models", lister.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    model = ChatModel(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", KEY, idle_timeout=60)
    yield Catalog(model.list_models)
    lister.free.set()
    await model.close()
    await runner.cleanup()


async def names(models: Catalog) -> list[str]:
    """Lists the models, or says that they cannot be listed."""
    try:
        async with asyncio.timeout(SECONDS):
            return [model.id for model in await models.list()]
    except ApiError as error:
        return [error.message]


async def test_a_list_is_kept(
    lister: Lister, models: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert catalog.KEPT == 60
    for _ in range(3):
        assert await names(models) == ["one"]
    assert (await models.get("one")).id == "one"
    assert lister.requests == 1
    monkeypatch.setattr(catalog, "KEPT", 0)
    # What was listed before is kept as long as was said then.
    assert await names(models) == ["one"]
    assert lister.requests == 1


async def test_a_list_that_is_old_is_asked_for_again(
    lister: Lister, models: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KEPT", 0)
    assert await names(models) == ["one"]
    lister.names = ["two"]
    assert await names(models) == ["two"]
    assert lister.requests == 2


async def test_callers_share_a_request_also_when_one_goes_away(
    lister: Lister, models: Catalog
) -> None:
    lister.free.clear()
    first, *others = [asyncio.create_task(names(models)) for _ in range(5)]
    await until(lambda: lister.requests)
    first.cancel()
    await asyncio.wait([first])
    lister.free.set()
    assert await asyncio.gather(*others) == [["one"]] * 4
    assert lister.requests == 1


@pytest.mark.parametrize("failure", FAILURES, ids=["503", "404", "no JSON"])
async def test_callers_share_a_failure(
    lister: Lister,
    models: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    failure: web.Response,
) -> None:
    monkeypatch.setattr(catalog, "PAUSE", FOREVER)
    lister.failure = failure
    assert await asyncio.gather(*(names(models) for _ in range(5))) == [[UNKNOWN]] * 5
    assert await names(models) == [UNKNOWN]
    assert lister.requests == 1


async def test_after_a_pause_the_server_is_asked_again(
    lister: Lister, models: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PAUSE", 0)
    lister.failure = FAILURES[0]
    assert await names(models) == [UNKNOWN]
    lister.failure = None
    assert await names(models) == ["one"]
    assert lister.requests == 2


async def test_a_server_that_was_away_long_ago_is_waited_for(
    lister: Lister, models: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEPT", "PAUSE", "AWAY"):
        monkeypatch.setattr(catalog, name, 0)
    assert await names(models) == ["one"]
    lister.failure = FAILURES[0]
    assert await names(models) == ["one"]
    lister.failure = None
    lister.names = ["two"]
    assert await names(models) == ["two"]


async def test_callers_of_a_server_that_hangs_wait_together(
    lister: Lister, models: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PATIENCE", 0.1)
    monkeypatch.setattr(catalog, "PAUSE", FOREVER)
    lister.free.clear()
    assert await asyncio.gather(*(names(models) for _ in range(5))) == [[UNKNOWN]] * 5
    assert lister.requests == 1


async def test_an_older_list_is_given_at_once_while_the_server_is_away(
    lister: Lister, models: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KEPT", 0)
    monkeypatch.setattr(catalog, "PAUSE", 0)
    monkeypatch.setattr(catalog, "PATIENCE", FOREVER)
    assert await names(models) == ["one"]
    lister.failure = FAILURES[0]
    assert await names(models) == ["one"]
    # Now it hangs, and nobody waits for it.
    lister.free.clear()
    for _ in range(3):
        assert await names(models) == ["one"]
    await until(lambda: lister.requests == 3)
    lister.failure = None
    lister.names = ["two"]
    lister.free.set()
    async with asyncio.timeout(SECONDS):
        while await names(models) != ["two"]:
            await asyncio.sleep(0.02)
